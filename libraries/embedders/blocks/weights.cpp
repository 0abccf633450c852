#include "embedders/blocks/weights.h"

#include <algorithm>

namespace mlxcpp::embedders {

nn::Weights without_prefix(nn::Weights weights, std::string_view prefix) {
  nn::Weights out;
  for (auto& [name, w] : weights)
    out.insert_or_assign(name.starts_with(prefix) ? name.substr(prefix.size()) : name, w);
  return out;
}

nn::Weights without(nn::Weights weights, std::initializer_list<std::string_view> beginnings) {
  std::erase_if(weights, [&](const auto& entry) {
    return std::any_of(beginnings.begin(), beginnings.end(),
                       [&](auto b) { return entry.first.starts_with(b); });
  });
  return weights;
}

}  // namespace mlxcpp::embedders

// Reference: sentence_transformers/models/Pooling.py.
#include "embedders/pooling.h"

#include <array>
#include <cmath>
#include <utility>

namespace mlxcpp::embedders {
namespace {

constexpr std::array<std::pair<std::string_view, Pooling>, 8> kNames = {{
    {"mean", Pooling::mean},
    {"cls", Pooling::cls},
    {"first", Pooling::first},
    {"last", Pooling::last},
    {"max", Pooling::max},
    {"mean_sqrt_len", Pooling::mean_sqrt_len},
    {"weighted_mean", Pooling::weighted_mean},
    {"none", Pooling::none},
}};

// x [n, hidden] -> [1, hidden]
mx::array pool_one(const mx::array& x, Pooling pooling, int first) {
  const int n = x.shape(0);
  switch (pooling) {
    case Pooling::max:
      return mx::max(x, 0, true);
    case Pooling::mean_sqrt_len:
      return mx::sum(x, 0, true) * mx::array(1.0f / std::sqrt(static_cast<float>(n)), x.dtype());
    case Pooling::weighted_mean: {
      const auto weights = mx::astype(mx::arange(first + 1, first + n + 1), x.dtype());
      return mx::sum(x * mx::expand_dims(weights, 1), 0, true) / mx::sum(weights);
    }
    default:
      return mx::mean(x, 0, true);
  }
}

}  // namespace

std::optional<Pooling> pooling_from_name(std::string_view name) {
  for (const auto& [known, pooling] : kNames)
    if (known == name) return pooling;
  return std::nullopt;
}

std::string_view name(Pooling pooling) {
  for (const auto& [name, p] : kNames)
    if (p == pooling) return name;
  return "";
}

std::vector<std::string_view> pooling_names() {
  std::vector<std::string_view> out;
  for (const auto& [name, pooling] : kNames) out.push_back(name);
  return out;
}

mx::array pool(const mx::array& hidden, const PackedTokens& tokens, Pooling pooling,
               const std::vector<int>& skip) {
  switch (pooling) {
    case Pooling::none:
      return hidden;
    case Pooling::cls:
    case Pooling::first:
      return mx::take(hidden, tokens.first_tokens(), 0);
    case Pooling::last:
      return mx::take(hidden, tokens.last_tokens(), 0);
    default:
      break;
  }
  // Each text by itself, so that its sum does not depend on its neighbours.
  std::vector<mx::array> rows;
  int start = 0;
  for (size_t i = 0; i < tokens.lengths.size(); ++i) {
    const int end = start + tokens.lengths[i];
    // A text that is all prompt has nothing else to be judged by.
    const int first = skip.empty() || skip[i] >= tokens.lengths[i] ? 0 : skip[i];
    rows.push_back(
        pool_one(mx::slice(hidden, {start + first, 0}, {end, hidden.shape(1)}), pooling, first));
    start = end;
  }
  return rows.size() == 1 ? rows[0] : mx::concatenate(rows, 0);
}

}  // namespace mlxcpp::embedders

#include "embedders/text_encoder.h"

#include <algorithm>

namespace mlxcpp::embedders {
namespace {

mx::array int_array(const std::vector<int>& values) {
  return mx::array(values.data(), {static_cast<int>(values.size())}, mx::int32);
}

}  // namespace

PackedTokens::PackedTokens(std::span<const Tokens* const> texts)
    : ids(mx::zeros({0}, mx::int32)), type_ids(ids), positions(ids) {
  std::vector<int> all, types, places;
  for (const Tokens* t : texts) {
    const int n = static_cast<int>(t->ids.size());
    lengths.push_back(n);
    all.insert(all.end(), t->ids.begin(), t->ids.end());
    for (int i = 0; i < n; ++i) places.push_back(i);
    if (t->type_ids.empty())
      types.resize(types.size() + n, 0);
    else
      types.insert(types.end(), t->type_ids.begin(), t->type_ids.end());
  }
  pairs = std::any_of(types.begin(), types.end(), [](int t) { return t != 0; });
  ids = int_array(all);
  type_ids = int_array(types);
  positions = int_array(places);
}

mx::array PackedTokens::first_tokens() const {
  std::vector<int> at;
  for (int start = 0; const int n : lengths) {
    at.push_back(start);
    start += n;
  }
  return int_array(at);
}

mx::array PackedTokens::last_tokens() const {
  std::vector<int> at;
  for (int start = 0; const int n : lengths) {
    start += n;
    at.push_back(start - 1);
  }
  return int_array(at);
}

mx::array TextEncoder::scores(const mx::array&, const PackedTokens&) const {
  throw Error("this type of model has no classification head that scores pairs of texts");
}

mx::array TextEncoder::next_token_logits(const mx::array&, const PackedTokens&) const {
  throw Error("this type of model is no language model: it has no logits of a next token");
}

}  // namespace mlxcpp::embedders

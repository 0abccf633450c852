#include "embedders/blocks/attention.h"

namespace mlxcpp::embedders {

mx::array attend(mx::array q, mx::array k, const mx::array& v, const PackedTokens& tokens,
                 const nn::RoPE* rope, std::optional<int> window) {
  if (rope) {
    // Every token as a row of its own, with a position of its own: [T, H, 1, D].
    const auto turn = [&](const mx::array& x) {
      return mx::squeeze((*rope)(mx::expand_dims(x, 2), tokens.positions), 2);
    };
    q = turn(q);
    k = turn(k);
  }
  const float scale = 1.0f / std::sqrt(static_cast<float>(q.shape(2)));
  const auto y = kernels::packed_attention(q, k, v, tokens.lengths,
                                           {.scale = scale, .causal = false, .window = window});
  return mx::flatten(y, 1, 2);
}

mx::array attend_fused(const mx::array& qkv, int heads, const PackedTokens& tokens,
                       const nn::RoPE* rope, std::optional<int> window) {
  const auto all = mx::unflatten(qkv, -1, {3, heads, -1});  // [T, 3, H, D]
  const auto parts = mx::split(all, 3, 1);
  const auto part = [&](int i) { return mx::squeeze(parts[i], 1); };
  return attend(part(0), part(1), part(2), tokens, rope, window);
}

}  // namespace mlxcpp::embedders

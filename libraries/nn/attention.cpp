#include "nn/attention.h"

#include <cmath>

#include "kernels/attention.h"

namespace mlxcpp::nn {
namespace {

int or_default(int value, int otherwise) { return value > 0 ? value : otherwise; }

}  // namespace

MultiHeadAttention::MultiHeadAttention(int dims, int num_heads, AttentionDims w, bool with_bias)
    : num_heads_(num_heads),
      query_proj(this, "query_proj", or_default(w.query_input, dims), dims, with_bias),
      key_proj(this, "key_proj", or_default(w.key_input, dims), dims, with_bias),
      value_proj(this, "value_proj", or_default(w.value_input, or_default(w.key_input, dims)),
                 or_default(w.value, dims), with_bias),
      out_proj(this, "out_proj", or_default(w.value, dims), or_default(w.value_output, dims),
               with_bias) {
  if (num_heads <= 0 || dims % num_heads != 0 || or_default(w.value, dims) % num_heads != 0)
    throw Error("MultiHeadAttention: {} dims and {} value dims do not divide into {} heads", dims,
                or_default(w.value, dims), num_heads);
}

mx::array MultiHeadAttention::operator()(const mx::array& queries, const mx::array& keys,
                                         const mx::array& values,
                                         const std::optional<mx::array>& mask) const {
  const auto heads = [&](const mx::array& a) {  // [B, L, H*D] -> [B, H, L, D]
    return mx::transpose(mx::unflatten(a, -1, {num_heads_, -1}), {0, 2, 1, 3});
  };
  const auto q = heads(query_proj(queries));
  const auto k = heads(key_proj(keys));
  const auto v = heads(value_proj(values));
  const float scale = 1.0f / std::sqrt(static_cast<float>(q.shape(-1)));
  const auto y = kernels::attention(q, k, v, {.scale = scale, .causal = false, .mask = mask});
  return out_proj(mx::flatten(mx::transpose(y, {0, 2, 1, 3}), -2, -1));
}

std::string MultiHeadAttention::settings() const { return fmt::format("heads={}", num_heads_); }

mx::array MultiHeadAttention::additive_causal_mask(int length, mx::Dtype dtype) {
  const auto i = mx::arange(length);
  const auto later = mx::less(mx::expand_dims(i, 1), mx::expand_dims(i, 0));
  return mx::where(later, mx::array(mx::finfo(dtype).min, dtype), mx::array(0.0f, dtype));
}

}  // namespace mlxcpp::nn

#include "llm/blocks/attention.h"

#include <cmath>

namespace mlxcpp::llm {

Attention::Attention(const DecoderConfig& c, const AttentionOptions& o)
    : heads_(c.num_attention_heads),
      kv_heads_(c.kv_heads()),
      head_dim_(c.head_size()),
      rope_(o.rope),
      attention_{.scale = o.scale.value_or(1.0f / std::sqrt(static_cast<float>(head_dim_))),
                 .window = o.window,
                 .softcap = o.softcap},
      q_proj(this, c.names.q_proj, c.hidden_size, heads_ * head_dim_, o.qkv_bias),
      k_proj(this, c.names.k_proj, c.hidden_size, kv_heads_ * head_dim_, o.qkv_bias),
      v_proj(this, c.names.v_proj, c.hidden_size, kv_heads_ * head_dim_, o.qkv_bias),
      o_proj(this, c.names.o_proj, heads_ * head_dim_, c.hidden_size, o.output_bias),
      q_norm(this, c.names.q_norm, nn::absent),
      k_norm(this, c.names.k_norm, nn::absent) {
  if (o.qk_norm) {
    q_norm.emplace(head_dim_, c.rms_norm_eps, o.norm_plus_one);
    k_norm.emplace(head_dim_, c.rms_norm_eps, o.norm_plus_one);
  }
}

mx::array Attention::operator()(const mx::array& x, KVCache* cache) const {
  const int B = x.shape(0), L = x.shape(1);
  const auto split = [&](const mx::array& a, int heads) {  // [B, L, heads*D] -> [B, heads, L, D]
    return mx::transpose(mx::reshape(a, {B, L, heads, head_dim_}), {0, 2, 1, 3});
  };
  auto q = split(q_proj(x), heads_);
  auto k = split(k_proj(x), kv_heads_);
  const auto v = split(v_proj(x), kv_heads_);
  if (q_norm) {
    q = q_norm(q);
    k = k_norm(k);
  }
  if (rope_) {
    const auto at = positions(cache);
    q = (*rope_)(q, at);
    k = (*rope_)(k, at);
  }
  const auto y = attend(q, k, v, cache, attention_);
  return o_proj(mx::reshape(mx::transpose(y, {0, 2, 1, 3}), {B, L, heads_ * head_dim_}));
}

}  // namespace mlxcpp::llm

#include "llm/blocks/attention.h"

#include <cmath>

#include "kernels/norm.h"
#include "llm/blocks/step.h"

namespace mlxcpp::llm {
namespace {

class AllHeadsRMSNorm final : public nn::Layer {
 public:
  AllHeadsRMSNorm(int dims, float eps)
      : eps_(eps), weight(this, "weight", mx::ones({dims}, mx::float32)) {}

  mx::array operator()(const mx::array& x) const override {
    return mx::reshape(kernels::rms_norm(mx::flatten(x, 2, 3), *weight, eps_), x.shape());
  }

 private:
  const float eps_;

 public:
  kernels::NormPart step_part() const { return {false, eps_, *weight, std::nullopt}; }

  nn::Param weight;  // [heads * head_dim]
};

class LayerNormByHead final : public nn::Layer {
 public:
  LayerNormByHead(int heads, int head_dim, float eps)
      : eps_(eps), weight(this, "weight", mx::ones({heads, head_dim}, mx::float32)) {}

  mx::array operator()(const mx::array& x) const override {
    const auto normed = kernels::layer_norm(x, std::nullopt, std::nullopt, eps_);
    return mx::astype(normed * *weight, x.dtype());
  }

 private:
  const float eps_;

 public:
  nn::Param weight;  // [heads, head_dim]
};

std::unique_ptr<nn::Layer> make_norm(QkNorm kind, int heads, int head_dim, float eps) {
  switch (kind) {
    case QkNorm::none:
      break;
    case QkNorm::rms:
      return std::make_unique<nn::RMSNorm>(head_dim, eps);
    case QkNorm::rms_plus_one:
      return std::make_unique<nn::RMSNorm>(head_dim, eps, true);
    case QkNorm::rms_all_heads:
      return std::make_unique<AllHeadsRMSNorm>(heads * head_dim, eps);
    case QkNorm::layer:
      return std::make_unique<nn::LayerNorm>(head_dim, eps);
    case QkNorm::layer_by_head:
      return std::make_unique<LayerNormByHead>(heads, head_dim, eps);
  }
  return nullptr;
}

}  // namespace

Attention::Attention(const DecoderConfig& c, const AttentionOptions& o)
    : heads_(c.num_attention_heads),
      kv_heads_(c.kv_heads()),
      head_dim_(c.head_size()),
      qkv_grouped_(o.qkv_grouped),
      qk_norm_(o.qk_norm),
      rope_(o.rope),
      attention_{.scale = o.scale.value_or(1.0f / std::sqrt(static_cast<float>(head_dim_))),
                 .window = o.window,
                 .softcap = o.softcap},
      q_proj(this, c.names.q_proj, nn::absent),
      k_proj(this, c.names.k_proj, nn::absent),
      v_proj(this, c.names.v_proj, nn::absent),
      qkv_proj(this, c.names.qkv_proj, nn::absent),
      output_norm(this, o.output_norm, nn::absent),
      o_proj(this, c.names.o_proj, heads_ * head_dim_, c.hidden_size, o.output_bias),
      q_norm(this, c.names.q_norm, nn::absent),
      k_norm(this, c.names.k_norm, nn::absent) {
  if (!c.names.qkv_proj.empty()) {
    qkv_proj.emplace(c.hidden_size, (heads_ + 2 * kv_heads_) * head_dim_, o.qkv_bias);
  } else {
    q_proj.emplace(c.hidden_size, heads_ * head_dim_, o.qkv_bias);
    k_proj.emplace(c.hidden_size, kv_heads_ * head_dim_, o.qkv_bias);
    v_proj.emplace(c.hidden_size, kv_heads_ * head_dim_, o.qkv_bias);
  }
  if (!o.output_norm.empty()) output_norm.emplace(heads_ * head_dim_, c.rms_norm_eps);
  q_norm.set(make_norm(o.qk_norm, heads_, head_dim_, c.rms_norm_eps));
  k_norm.set(make_norm(o.qk_norm, kv_heads_, head_dim_, c.rms_norm_eps));
}

std::array<mx::array, 3> Attention::project(const mx::array& x) const {
  const int B = x.shape(0), L = x.shape(1);
  const auto split = [&](const mx::array& a, int heads) {  // [B, L, heads*D] -> [B, L, heads, D]
    return mx::reshape(a, {B, L, heads, head_dim_});
  };
  if (!qkv_proj)
    return {split(q_proj(x), heads_), split(k_proj(x), kv_heads_), split(v_proj(x), kv_heads_)};
  if (!qkv_grouped_) {
    const auto qkv = split(qkv_proj(x), heads_ + 2 * kv_heads_);
    const auto parts = mx::split(qkv, {heads_, heads_ + kv_heads_}, 2);
    return {parts[0], parts[1], parts[2]};
  }
  const int queries = heads_ / kv_heads_;  // of each key head
  const auto groups = mx::reshape(qkv_proj(x), {B, L, kv_heads_, queries + 2, head_dim_});
  const auto parts = mx::split(groups, {queries, queries + 1}, 3);
  return {split(parts[0], heads_), split(parts[1], kv_heads_), split(parts[2], kv_heads_)};
}

mx::array Attention::operator()(const mx::array& x, KVCache* cache) const {
  const int B = x.shape(0), L = x.shape(1);
  auto [q, k, v] = project(x);
  if (q_norm) {
    q = q_norm(q);
    k = k_norm(k);
  }
  for (auto* a : {&q, &k, &v}) *a = mx::transpose(*a, {0, 2, 1, 3});  // [B, heads, L, D]
  if (rope_) {
    const auto at = positions(cache);
    const int length = expected_length(cache);
    q = (*rope_)(q, at, length);
    k = (*rope_)(k, at, length);
  }
  const auto y = attend(q, k, v, cache, attention_);
  const auto joined = mx::reshape(mx::transpose(y, {0, 2, 1, 3}), {B, L, heads_ * head_dim_});
  return o_proj(output_norm ? output_norm(joined) : joined);
}

bool Attention::set_step_part(kernels::LayerPart& layer) const {
  if (qk_norm_ == QkNorm::layer_by_head) return false;
  kernels::AttentionPart& part = layer.attention.emplace();
  part.heads = heads_;
  part.kv_heads = kv_heads_;
  part.head_dim = head_dim_;
  part.grouped = qkv_proj && qkv_grouped_;
  for (const auto* proj : {&q_proj, &k_proj, &v_proj, &qkv_proj}) {
    if (!*proj) continue;
    auto linear = llm::step_part(**proj);
    if (!linear) return false;
    part.qkv.push_back(std::move(*linear));
  }
  auto out = llm::step_part(*o_proj);
  if (!out) return false;
  part.out = std::move(*out);
  if (output_norm) {
    part.out_norm = llm::step_part(*output_norm);
    if (!part.out_norm) return false;
  }
  if (!q_norm) return true;
  part.norm_heads_together = qk_norm_ == QkNorm::rms_all_heads;
  const auto norm = [&](const nn::Layer& layer) {
    const auto* all_heads = dynamic_cast<const AllHeadsRMSNorm*>(&layer);
    return all_heads ? std::optional(all_heads->step_part()) : llm::step_part(layer);
  };
  part.q_norm = norm(*q_norm);
  part.k_norm = norm(*k_norm);
  return part.q_norm && part.k_norm;
}

std::optional<StepAttention::StepCall> Attention::step_call(int L, const KVCache& cache) const {
  if (!rope_) return StepCall{std::nullopt, attention_};
  auto rope = step_rope(*rope_, cache.positions(), L, cache.expected());
  if (!rope) return std::nullopt;
  return StepCall{std::move(rope), attention_};
}

}  // namespace mlxcpp::llm

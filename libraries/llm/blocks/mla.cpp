#include "llm/blocks/mla.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mlxcpp::llm {
namespace {

constexpr float kNormEps = 1e-6f;  // whatever rms_norm_eps the config has

// x [B, H, L, D]: each head's vectors through its own matrix -> [B, H, L, N]
mx::array per_head(const nn::Child<nn::SwitchLinear>& layer, const mx::array& x) {
  const int B = x.shape(0), H = x.shape(1), L = x.shape(2);
  const auto rows = mx::reshape(mx::transpose(x, {1, 0, 2, 3}), {H * B * L, x.shape(3)});
  const auto heads = mx::repeat(mx::arange(0, H, mx::uint32), B * L);
  const auto y = layer(rows, heads, true);
  return mx::transpose(mx::reshape(y, {H, B, L, y.shape(-1)}), {1, 0, 2, 3});
}

// The last axis in two.
std::pair<mx::array, mx::array> cut(const mx::array& x, int at) {
  auto parts = mx::split(x, mx::Shape{at}, -1);
  return {std::move(parts[0]), std::move(parts[1])};
}

}  // namespace

void LatentAttentionConfig::fields(ConfigReader& v) {
  v.maybe("q_lora_rank", q_lora_rank);
  if (q_lora_rank && *q_lora_rank <= 0)
    throw Error("{}: 'q_lora_rank' must be positive or null, found {}", v.where(), *q_lora_rank);
  read_size(v, "kv_lora_rank", kv_lora_rank);
  read_size(v, "qk_nope_head_dim", qk_nope_head_dim);
  read_size(v, "qk_rope_head_dim", qk_rope_head_dim);
  if (qk_rope_head_dim % 2 != 0)
    throw Error("{}: 'qk_rope_head_dim' must be even, found {}", v.where(), qk_rope_head_dim);
  read_size(v, "v_head_dim", v_head_dim);
  int heads = 1;
  v.maybe("num_attention_heads", heads);
  const int largest = std::max(head_dim(), v_head_dim);
  if (const int most = std::numeric_limits<int>::max() / largest; heads > most)
    throw Error("{}: 'num_attention_heads' is {}, expected {} at most, with heads of {}", v.where(),
                heads, most, largest);
}

float yarn_attention_factor(const nn::RopeConfig& rope) {
  const double factor = rope.factor.value_or(1.0), mscale = rope.mscale_all_dim.value_or(0.0);
  if (rope.type == nn::RopeType::standard || factor <= 1 || mscale == 0) return 1.0f;
  const double m = 0.1 * mscale * std::log(factor) + 1.0;
  return static_cast<float>(m * m);
}

LatentAttention::LatentAttention(const DecoderConfig& c, const LatentAttentionConfig& a,
                                 std::shared_ptr<const nn::RoPE> rope, float scale, bool bias)
    : a_(a),
      heads_(c.num_attention_heads),
      rope_(std::move(rope)),
      attention_{.scale = scale},
      q_proj(this, "q_proj", nn::absent),
      q_a_proj(this, "q_a_proj", nn::absent),
      q_b_proj(this, "q_b_proj", nn::absent),
      q_a_layernorm(this, "q_a_layernorm", nn::absent),
      kv_a_proj_with_mqa(this, "kv_a_proj_with_mqa", c.hidden_size,
                         a.kv_lora_rank + a.qk_rope_head_dim, bias),
      kv_a_layernorm(this, "kv_a_layernorm", a.kv_lora_rank, kNormEps),
      embed_q(this, "embed_q", a.qk_nope_head_dim, a.kv_lora_rank, heads_),
      unembed_out(this, "unembed_out", a.kv_lora_rank, a.v_head_dim, heads_),
      o_proj(this, "o_proj", heads_ * a.v_head_dim, c.hidden_size, bias) {
  if (a.q_lora_rank) {
    q_a_proj.emplace(c.hidden_size, *a.q_lora_rank, bias);
    q_a_layernorm.emplace(*a.q_lora_rank, kNormEps);
    q_b_proj.emplace(*a.q_lora_rank, heads_ * a.head_dim());
  } else {
    q_proj.emplace(c.hidden_size, heads_ * a.head_dim());
  }
}

mx::array LatentAttention::operator()(const mx::array& x, KVCache* cache) const {
  const int B = x.shape(0), L = x.shape(1);
  const auto at = positions(cache);
  const int length = expected_length(cache);
  const auto queries = q_proj ? q_proj(x) : q_b_proj(q_a_layernorm(q_a_proj(x)));
  // [B, L, heads*D] -> [B, heads, L, nope] and [B, heads, L, rope]
  const auto [q_nope, q_rope] =
      cut(mx::transpose(mx::reshape(queries, {B, L, heads_, a_.head_dim()}), {0, 2, 1, 3}),
          a_.qk_nope_head_dim);
  const auto q = mx::concatenate({per_head(embed_q, q_nope), (*rope_)(q_rope, at, length)}, -1);

  const auto [compressed, k_rope] = cut(kv_a_proj_with_mqa(x), a_.kv_lora_rank);
  auto latent = mx::expand_dims(kv_a_layernorm(compressed), 1);    // [B, 1, L, rank]
  auto turned = (*rope_)(mx::expand_dims(k_rope, 1), at, length);  // [B, 1, L, rope]
  kernels::AttentionOptions options = attention_;
  if (cache) {
    options.mask = cache->mask(L);
    std::tie(latent, turned) = cache->update(latent, turned);
  }
  const auto k = mx::concatenate({latent, turned}, -1);  // one head for all of q's
  const auto y = per_head(unembed_out, kernels::attention(q, k, latent, options));
  return o_proj(mx::reshape(mx::transpose(y, {0, 2, 1, 3}), {B, L, heads_ * a_.v_head_dim}));
}

bool LatentAttention::set_step_part(kernels::LayerPart& layer) const {
  auto embed = step_stack(*embed_q), unembed = step_stack(*unembed_out);
  auto kv = llm::step_part(*kv_a_proj_with_mqa), out = llm::step_part(*o_proj);
  auto norm = llm::step_part(*kv_a_layernorm);
  if (!embed || !unembed || !kv || !out || !norm) return false;
  std::vector<kernels::LinearPart> queries;
  for (const auto* proj : {&q_proj, &q_a_proj, &q_b_proj}) {
    if (!*proj) continue;
    auto linear = llm::step_part(**proj);
    if (!linear) return false;
    queries.push_back(std::move(*linear));
  }
  std::optional<kernels::NormPart> q_norm;
  if (q_a_layernorm) {
    q_norm = llm::step_part(*q_a_layernorm);
    if (!q_norm) return false;
  }
  layer.latent.emplace(kernels::LatentPart{.frame = {},
                                           .heads = heads_,
                                           .nope_dim = a_.qk_nope_head_dim,
                                           .rope_dim = a_.qk_rope_head_dim,
                                           .rank = a_.kv_lora_rank,
                                           .value_dim = a_.v_head_dim,
                                           .q = std::move(queries),
                                           .q_norm = std::move(q_norm),
                                           .kv = std::move(*kv),
                                           .latent_norm = std::move(*norm),
                                           .embed_q = std::move(*embed),
                                           .unembed_out = std::move(*unembed),
                                           .out = std::move(*out)});
  return true;
}

std::optional<StepAttention::StepCall> LatentAttention::step_call(int L,
                                                                  const KVCache& cache) const {
  auto rope = step_rope(*rope_, cache.positions(), L, cache.expected());
  if (!rope) return std::nullopt;
  return StepCall{std::move(rope), attention_};
}

nn::Weights split_latent_projections(nn::Weights weights, int heads,
                                     const LatentAttentionConfig& a) {
  constexpr std::string_view kName = "kv_b_proj.weight";
  nn::Weights out;
  for (auto& [name, w] : weights) {
    if (!name.ends_with(kName)) {
      out.emplace(name, w);
      continue;
    }
    const int rows = a.qk_nope_head_dim + a.v_head_dim;
    if (w.shape() != mx::Shape{heads * rows, a.kv_lora_rank})
      throw Error("{}: expected shape [{}, {}], found [{}]", name, heads * rows, a.kv_lora_rank,
                  fmt::join(w.shape(), ", "));
    const auto of_head = mx::reshape(w, {heads, rows, a.kv_lora_rank});
    const auto parts = mx::split(of_head, mx::Shape{a.qk_nope_head_dim}, 1);
    const std::string prefix = name.substr(0, name.size() - kName.size());
    out.emplace(prefix + "embed_q.weight", mx::contiguous(mx::swapaxes(parts[0], 1, 2)));
    out.emplace(prefix + "unembed_out.weight", mx::contiguous(parts[1]));
  }
  return out;
}

}  // namespace mlxcpp::llm

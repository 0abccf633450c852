// Phi-3.5-MoE and Phi-mini-MoE (arXiv 2404.14219, 2409.12136): LayerNorm, biases, LongRoPE, and
// experts that are chosen one after the other by SparseMixer. Reference: transformers
// modeling_phimoe.py.
#include <limits>
#include <vector>

#include "llm/blocks/causal_lm.h"
#include "llm/blocks/decoder_layer.h"
#include "llm/blocks/moe.h"
#include "llm/models.h"

namespace mlxcpp::llm {
namespace {

struct PhimoeConfig : DecoderConfig {
  MoEOptions moe;
  float router_jitter_noise = 0.01f;
  std::shared_ptr<const nn::RoPE> rope_table;

  PhimoeConfig() {
    rms_norm_eps = 1e-5f;
    rope.theta = 1e6;
    rope.original_max_position_embeddings = 4096;
    names.mlp = "block_sparse_moe";
  }

  void fields(ConfigReader& v) {
    DecoderConfig::fields(v);
    v.maybe("lm_head_bias", lm_head_bias);
    v.need("num_local_experts", moe.routing.num_experts);
    v.need("num_experts_per_tok", moe.routing.num_experts_per_tok);
    moe.routing.check(v.where());
    moe.moe_intermediate_size = intermediate_size;
    v.maybe("router_jitter_noise", router_jitter_noise);
    if (!(router_jitter_noise >= 0))
      throw Error("{}: 'router_jitter_noise' is {}, expected 0 or more", v.where(),
                  router_jitter_noise);
    rope.read(v, head_size());
    if (rope.type != nn::RopeType::standard && rope.type != nn::RopeType::longrope)
      throw Error("{}: 'rope_scaling': 'type' must be longrope or null", v.where());
    rope_table = std::make_shared<const nn::RoPE>(rope);
  }
};

// Each expert is the best of those that are left, with its share of a softmax over the ones that
// come close to it: within 2 * router_jitter_noise of the larger of the two magnitudes.
struct SparseMixer final : MoE {
  explicit SparseMixer(const PhimoeConfig& c)
      : MoE(c.hidden_size, c.hidden_act, c.moe),
        experts_per_tok(c.moe.routing.num_experts_per_tok),
        band(2 * c.router_jitter_noise) {}

  Routing choose(const mx::array& logits) const override {
    const auto scores = mx::astype(logits, mx::float32);  // [..., E]
    const auto never = mx::array(-std::numeric_limits<float>::infinity());
    const auto magnitude = mx::abs(scores);
    auto left = scores;
    std::vector<mx::array> experts, weights;  // [..., 1] each
    for (int i = 0; i < experts_per_tok; ++i) {
      const auto best = mx::stop_gradient(mx::argmax(left, -1, true));
      const auto top = mx::max(left, -1, true);
      const auto distance = (top - scores) / mx::maximum(magnitude, top);
      const auto near = mx::where(distance > mx::array(band), never, left);
      experts.push_back(best);
      weights.push_back(mx::take_along_axis(mx::softmax(near, -1, true), best, -1));
      left = mx::put_along_axis(left, best, never, -1);
    }
    return {mx::concatenate(experts, -1), mx::concatenate(weights, -1)};
  }

  const int experts_per_tok;
  const float band;
};

struct Layer final : PreNormLayer<Attention, nn::LayerNorm> {
  Layer(const PhimoeConfig& c, int index)
      : PreNormLayer(c, std::make_unique<SparseMixer>(c),
                     AttentionOptions{.qkv_bias = c.attention_bias,
                                      .output_bias = c.attention_bias,
                                      .window = c.window(index),
                                      .rope = c.rope_table}) {}
};

struct Phimoe final : CausalLM<PhimoeConfig, Layer, nn::LayerNorm> {
  explicit Phimoe(const PhimoeConfig& c) : CausalLM(c, 1.0f, c.rms_norm_eps) {}

  nn::Weights sanitize(nn::Weights weights) const override {
    return stack_experts(CausalLM::sanitize(std::move(weights)),
                         {.gate_proj = "w1", .up_proj = "w3", .down_proj = "w2"});
  }
};

std::unique_ptr<LanguageModel> make(const PhimoeConfig& c) { return std::make_unique<Phimoe>(c); }

}  // namespace

Creator phimoe() { return creator(make); }

}  // namespace mlxcpp::llm

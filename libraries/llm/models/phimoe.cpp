// Phi-3.5-MoE and Phi-mini-MoE (arXiv 2404.14219, 2409.12136): LayerNorm, biases, LongRoPE, and
// experts that are chosen one after the other by SparseMixer. Reference: transformers
// modeling_phimoe.py.
#include "llm/blocks/causal_lm.h"
#include "llm/blocks/decoder_layer.h"
#include "llm/blocks/longrope_lm.h"
#include "llm/blocks/moe.h"
#include "llm/models.h"

namespace mlxcpp::llm {
namespace {

struct PhimoeConfig : DecoderConfig {
  MoEOptions moe;
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
    float router_jitter_noise = 0.01f;
    v.maybe("router_jitter_noise", router_jitter_noise);
    if (!(router_jitter_noise >= 0))
      throw Error("{}: 'router_jitter_noise' is {}, expected 0 or more", v.where(),
                  router_jitter_noise);
    moe.routing.scores = RoutingOptions::Scores::sparse_mixer;
    moe.routing.sparse_mixer_band = 2 * router_jitter_noise;
    rope.read(v, head_size());
    if (rope.type != nn::RopeType::standard && rope.type != nn::RopeType::longrope)
      throw Error("{}: 'rope_scaling': 'type' must be longrope or null", v.where());
    rope_table = std::make_shared<const nn::RoPE>(rope);
  }
};

struct Layer final : PreNormLayer<Attention, nn::LayerNorm> {
  Layer(const PhimoeConfig& c, int index)
      : PreNormLayer(c, std::make_unique<MoE>(c.hidden_size, c.hidden_act, c.moe),
                     AttentionOptions{.qkv_bias = c.attention_bias,
                                      .output_bias = c.attention_bias,
                                      .window = c.window(index),
                                      .rope = c.rope_table}) {}
};

struct Phimoe final : LongRopeLM<CausalLM<PhimoeConfig, Layer, nn::LayerNorm>> {
  explicit Phimoe(const PhimoeConfig& c) : LongRopeLM(c, 1.0f, c.rms_norm_eps) {}

  nn::Weights sanitize(nn::Weights weights) const override {
    return stack_experts(CausalLM::sanitize(std::move(weights)),
                         {.gate_proj = "w1", .up_proj = "w3", .down_proj = "w2"});
  }
};

std::unique_ptr<LanguageModel> make(const PhimoeConfig& c) { return std::make_unique<Phimoe>(c); }

}  // namespace

Creator phimoe() { return creator(make); }

}  // namespace mlxcpp::llm

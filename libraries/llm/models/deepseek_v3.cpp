// DeepSeek-V3 and R1 (arXiv 2412.19437): latent attention, and after the first layers a mixture of
// experts whose choice is limited to the best groups and steered by a correction bias. Reference:
// transformers modeling_deepseek_v3.py. The layers that predict further tokens are dropped.
#include <cmath>

#include "llm/blocks/causal_lm.h"
#include "llm/blocks/decoder_layer.h"
#include "llm/blocks/mla.h"
#include "llm/blocks/moe.h"
#include "llm/models.h"

namespace mlxcpp::llm {
namespace {

struct DeepseekV3Config : DecoderConfig {
  LatentAttentionConfig attention;
  int n_routed_experts = 256, n_shared_experts = 1, num_experts_per_tok = 8;
  int moe_intermediate_size = 2048;
  int n_group = 8, topk_group = 4;
  int first_k_dense_replace = 3, moe_layer_freq = 1;
  float routed_scaling_factor = 2.5f;
  bool norm_topk_prob = true;
  std::shared_ptr<const nn::RoPE> rope_table;

  DeepseekV3Config() { head_dim = 64; }  // unused, but hidden_size need not divide by the heads

  void fields(ConfigReader& v) {
    DecoderConfig::fields(v);
    attention.fields(v);
    v.maybe("n_routed_experts", n_routed_experts);
    v.maybe("n_shared_experts", n_shared_experts);
    v.maybe("num_experts_per_tok", num_experts_per_tok);
    read_size(v, "moe_intermediate_size", moe_intermediate_size);
    v.maybe("n_group", n_group);
    v.maybe("topk_group", topk_group);
    v.maybe("first_k_dense_replace", first_k_dense_replace);
    read_size(v, "moe_layer_freq", moe_layer_freq);
    v.maybe("routed_scaling_factor", routed_scaling_factor);
    v.maybe("norm_topk_prob", norm_topk_prob);
    v.only("topk_method", "noaux_tc");
    v.only("scoring_func", "sigmoid");
    for (const char* key : {"num_mtp_layers", "qk_head_dim"}) v.skip(key);
    moe().routing.check(v.where());
    if (n_shared_experts < 0)
      throw Error("{}: 'n_shared_experts' is negative: {}", v.where(), n_shared_experts);
    bool rope_interleave = true;
    v.maybe("rope_interleave", rope_interleave);
    rope.read(v, attention.qk_rope_head_dim);
    rope_table = std::make_shared<const nn::RoPE>(rope, rope_interleave);
  }

  MoEOptions moe() const {
    return {.routing = {.num_experts = n_routed_experts,
                        .num_experts_per_tok = num_experts_per_tok,
                        .scores = RoutingOptions::Scores::sigmoid,
                        .norm_topk_prob = norm_topk_prob,
                        .routed_scaling_factor = routed_scaling_factor,
                        .n_group = n_group,
                        .topk_group = topk_group},
            .moe_intermediate_size = moe_intermediate_size,
            .shared_intermediate_size = n_shared_experts * moe_intermediate_size,
            .correction_bias = "gate.e_score_correction_bias"};
  }
  std::unique_ptr<nn::Layer> mlp(int layer) const {
    if (layer < first_k_dense_replace || layer % moe_layer_freq != 0) return gated_mlp(*this);
    return std::make_unique<MoE>(hidden_size, hidden_act, moe());
  }
  float scale() const {
    return yarn_attention_factor(rope) / std::sqrt(static_cast<float>(attention.head_dim()));
  }
};

struct Block final : PreNormLayer<LatentAttention> {
  Block(const DeepseekV3Config& c, int index)
      : PreNormLayer(c, c.mlp(index), c.attention, c.rope_table, c.scale(), c.attention_bias) {}
};

struct DeepseekV3 final : CausalLM<DeepseekV3Config, Block> {
  explicit DeepseekV3(const DeepseekV3Config& c) : CausalLM(c, 1.0f, c.rms_norm_eps) {}

  nn::Weights sanitize(nn::Weights weights) const override {
    weights = CausalLM::sanitize(std::move(weights));
    weights = drop_further_layers(std::move(weights), "model.layers.", c.num_hidden_layers);
    weights = split_latent_projections(std::move(weights), c.num_attention_heads, c.attention);
    return stack_experts(std::move(weights));
  }
};

std::unique_ptr<LanguageModel> make(const DeepseekV3Config& c) {
  return std::make_unique<DeepseekV3>(c);
}

}  // namespace

Creator deepseek_v3() { return creator(make); }

}  // namespace mlxcpp::llm

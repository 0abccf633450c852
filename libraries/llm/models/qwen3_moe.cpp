// Qwen3-MoE (arXiv 2505.09388): Qwen3 with a mixture of experts in place of the MLP. Reference:
// transformers modeling_qwen3_moe.py.
#include <algorithm>

#include "llm/blocks/causal_lm.h"
#include "llm/blocks/decoder_layer.h"
#include "llm/blocks/moe.h"
#include "llm/models.h"

namespace mlxcpp::llm {
namespace {

struct Qwen3MoeConfig : DecoderConfig {
  int moe_intermediate_size = 0;
  int num_experts = 0, num_experts_per_tok = 0;
  bool norm_topk_prob = false;
  int decoder_sparse_step = 1;
  std::vector<int> mlp_only_layers;
  std::shared_ptr<const nn::RoPE> rope_table;

  Qwen3MoeConfig() { head_dim = 128; }

  void fields(ConfigReader& v) {
    DecoderConfig::fields(v);
    read_size(v, "moe_intermediate_size", moe_intermediate_size);
    v.need("num_experts", num_experts);
    v.need("num_experts_per_tok", num_experts_per_tok);
    v.maybe("norm_topk_prob", norm_topk_prob);
    read_size(v, "decoder_sparse_step", decoder_sparse_step);
    v.maybe("mlp_only_layers", mlp_only_layers);
    bool use_sliding_window = false;
    v.maybe("use_sliding_window", use_sliding_window);
    if (!use_sliding_window) sliding_window.reset();
    v.skip("max_window_layers");  // all layers have the window, or none
    if (num_experts != 0) routing().check(v.where());
    rope.read(v, head_size());
    rope_table = std::make_shared<const nn::RoPE>(rope);
  }

  RoutingOptions routing() const {
    return {.num_experts = num_experts,
            .num_experts_per_tok = num_experts_per_tok,
            .norm_topk_prob = norm_topk_prob};
  }

  bool is_sparse(int layer) const {
    return num_experts > 0 && (layer + 1) % decoder_sparse_step == 0 &&
           std::find(mlp_only_layers.begin(), mlp_only_layers.end(), layer) ==
               mlp_only_layers.end();
  }
  std::unique_ptr<nn::Layer> mlp(int layer) const {
    if (!is_sparse(layer)) return gated_mlp(*this);
    return std::make_unique<MoE>(
        hidden_size, hidden_act,
        MoEOptions{.routing = routing(), .moe_intermediate_size = moe_intermediate_size});
  }
};

struct Block final : PreNormLayer<> {
  Block(const Qwen3MoeConfig& c, int index)
      : PreNormLayer(c, c.mlp(index),
                     AttentionOptions{.qkv_bias = c.attention_bias,
                                      .output_bias = c.attention_bias,
                                      .qk_norm = QkNorm::rms,
                                      .window = c.window(index),
                                      .rope = c.rope_table}) {}
};

struct Qwen3Moe final : CausalLM<Qwen3MoeConfig, Block> {
  explicit Qwen3Moe(const Qwen3MoeConfig& c) : CausalLM(c, 1.0f, c.rms_norm_eps) {}

  nn::Weights sanitize(nn::Weights weights) const override {
    return stack_experts(CausalLM::sanitize(std::move(weights)));
  }
};

std::unique_ptr<LanguageModel> make(const Qwen3MoeConfig& c) {
  return std::make_unique<Qwen3Moe>(c);
}

}  // namespace

Creator qwen3_moe() { return creator(make); }

}  // namespace mlxcpp::llm

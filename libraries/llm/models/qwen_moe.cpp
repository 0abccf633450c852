// Qwen's mixtures of experts. Qwen3-MoE (arXiv 2505.09388): Qwen3 with experts in place of the MLP.
// Qwen2-MoE (2407.10671): Qwen2 with experts, and one that every token goes through, behind a gate.
// Reference: transformers modeling_qwen2_moe.py, modeling_qwen3_moe.py.
#include <algorithm>

#include "llm/blocks/causal_lm.h"
#include "llm/blocks/decoder_layer.h"
#include "llm/blocks/moe.h"
#include "llm/models.h"

namespace mlxcpp::llm {
namespace {

struct QwenMoeConfig : DecoderConfig {
  RoutingOptions routing;
  int moe_intermediate_size = 0, shared_expert_intermediate_size = 0;
  int decoder_sparse_step = 1;
  std::vector<int> mlp_only_layers;
  bool use_sliding_window = false;
  bool qkv_bias = false, output_bias = false;
  QkNorm qk_norm = QkNorm::none;
  std::shared_ptr<const nn::RoPE> rope_table;

  void fields(ConfigReader& v) {
    DecoderConfig::fields(v);
    qkv_bias = output_bias = attention_bias;
    read_size(v, "moe_intermediate_size", moe_intermediate_size);
    // transformers 5 writes the number of experts under another name.
    if (v.json().contains("num_local_experts"))
      v.need("num_local_experts", routing.num_experts);
    else
      v.need("num_experts", routing.num_experts);
    v.skip("num_experts");
    v.need("num_experts_per_tok", routing.num_experts_per_tok);
    v.maybe("norm_topk_prob", routing.norm_topk_prob);
    if (routing.num_experts != 0) routing.check(v.where());
    read_size(v, "decoder_sparse_step", decoder_sparse_step);
    v.maybe("mlp_only_layers", mlp_only_layers);
    v.maybe("use_sliding_window", use_sliding_window);
    if (!use_sliding_window) sliding_window.reset();
    rope.read(v, head_size());
    rope_table = std::make_shared<const nn::RoPE>(rope);
  }

  bool is_sparse(int layer) const {
    return routing.num_experts > 0 && (layer + 1) % decoder_sparse_step == 0 &&
           std::find(mlp_only_layers.begin(), mlp_only_layers.end(), layer) ==
               mlp_only_layers.end();
  }
  std::unique_ptr<nn::Layer> mlp(int layer) const {
    if (!is_sparse(layer)) return gated_mlp(*this);
    return std::make_unique<MoE>(
        hidden_size, hidden_act,
        MoEOptions{.routing = routing,
                   .moe_intermediate_size = moe_intermediate_size,
                   .shared_intermediate_size = shared_expert_intermediate_size,
                   .shared_gate = true,
                   .shared_experts = "shared_expert"});
  }
};

struct Qwen2MoeConfig : QwenMoeConfig {
  Qwen2MoeConfig() { shared_expert_intermediate_size = 5632; }

  void fields(ConfigReader& v) {
    QwenMoeConfig::fields(v);
    read_size(v, "shared_expert_intermediate_size", shared_expert_intermediate_size);
    output_bias = false;
    qkv_bias = true;
    v.maybe("qkv_bias", qkv_bias);
    // Every second layer, of the first max_window_layers.
    int max_window_layers = 28;
    v.maybe("max_window_layers", max_window_layers);
    if (use_sliding_window && layer_types.empty())
      for (int i = 0; i < num_hidden_layers; ++i)
        layer_types.push_back(i % 2 == 0 && i < max_window_layers ? "sliding_attention"
                                                                  : "full_attention");
  }
};

struct Qwen3MoeConfig : QwenMoeConfig {
  Qwen3MoeConfig() { head_dim = 128; }

  void fields(ConfigReader& v) {
    QwenMoeConfig::fields(v);
    qk_norm = QkNorm::rms;
    v.skip("max_window_layers");  // every layer has the window, or none
  }
};

struct Block final : PreNormLayer<> {
  Block(const QwenMoeConfig& c, int index)
      : PreNormLayer(c, c.mlp(index),
                     AttentionOptions{.qkv_bias = c.qkv_bias,
                                      .output_bias = c.output_bias,
                                      .qk_norm = c.qk_norm,
                                      .window = c.window(index),
                                      .rope = c.rope_table}) {}
};

struct QwenMoe final : CausalLM<QwenMoeConfig, Block> {
  explicit QwenMoe(const QwenMoeConfig& c) : CausalLM(c, 1.0f, c.rms_norm_eps) {}

  nn::Weights sanitize(nn::Weights weights) const override {
    return stack_experts(CausalLM::sanitize(std::move(weights)));
  }
};

template <class Config>
std::unique_ptr<LanguageModel> make(const Config& c) {
  return std::make_unique<QwenMoe>(c);
}

}  // namespace

Creator qwen2_moe() { return creator(make<Qwen2MoeConfig>); }
Creator qwen3_moe() { return creator(make<Qwen3MoeConfig>); }

}  // namespace mlxcpp::llm

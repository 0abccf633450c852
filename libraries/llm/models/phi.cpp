// Phi and Phi-2 (arXiv 2309.05463): attention and MLP side by side on one LayerNorm, biases
// everywhere, rotary positions on a part of each head. Reference: transformers modeling_phi.py.
#include "llm/blocks/causal_lm.h"
#include "llm/blocks/decoder_layer.h"
#include "llm/models.h"

namespace mlxcpp::llm {
namespace {

struct PhiConfig : DecoderConfig {
  bool qk_layernorm = false;
  std::shared_ptr<const nn::RoPE> rope_table;

  PhiConfig() {
    hidden_act = "gelu_new";
    rms_norm_eps = 1e-5f;
    rope.partial_rotary_factor = 0.5;
    mlp_bias = lm_head_bias = true;
    names.norm = "final_layernorm";
    names.o_proj = "dense";
    names.q_norm = "q_layernorm";
    names.k_norm = "k_layernorm";
    names.up_proj = "fc1";
    names.down_proj = "fc2";
  }

  void fields(ConfigReader& v) {
    DecoderConfig::fields(v);
    sliding_window.reset();  // a key that the reference passes over
    v.maybe("layer_norm_eps", rms_norm_eps);
    v.maybe("qk_layernorm", qk_layernorm);
    v.only("tie_word_embeddings", false);  // the head has a bias
    rope.read(v, head_size());
    rope_table = std::make_shared<const nn::RoPE>(rope);
  }
};

struct Layer final : ParallelLayer {
  Layer(const PhiConfig& c, int)
      : ParallelLayer(c, std::make_unique<MLP>(c),
                      {.qkv_bias = true,
                       .output_bias = true,
                       .qk_norm = c.qk_layernorm ? QkNorm::layer : QkNorm::none,
                       .rope = c.rope_table}) {}
};

std::unique_ptr<LanguageModel> make(const PhiConfig& c) {
  return std::make_unique<CausalLM<PhiConfig, Layer, nn::LayerNorm>>(c, 1.0f, c.rms_norm_eps);
}

}  // namespace

Creator phi() { return creator(make); }

}  // namespace mlxcpp::llm

// GLM-4-0414 (arXiv 2406.12793): norms on both sides of attention and MLP, fused gate and up
// projections, half of each head turns, in pairs of neighbours.
// Reference: transformers modeling_glm4.py.
#include "llm/blocks/causal_lm.h"
#include "llm/blocks/decoder_layer.h"
#include "llm/models.h"

namespace mlxcpp::llm {
namespace {

struct Glm4Config : DecoderConfig {
  std::shared_ptr<const nn::RoPE> rope_table;

  Glm4Config() {
    head_dim = 128;
    rms_norm_eps = 1.5625e-7f;
    attention_bias = true;
    rope.partial_rotary_factor = 0.5;
    names.gate_up_proj = "gate_up_proj";
  }

  void fields(ConfigReader& v) {
    DecoderConfig::fields(v);
    sliding_window.reset();  // a key that the reference passes over
    v.only("mlp_bias", false);
    rope.read(v, head_size());
    rope_table = std::make_shared<const nn::RoPE>(rope, true);
  }
};

struct Layer final : SandwichLayer {
  Layer(const Glm4Config& c, int)
      : SandwichLayer(c,
                      {"input_layernorm", "post_self_attn_layernorm", "post_attention_layernorm",
                       "post_mlp_layernorm"},
                      gated_mlp(c), {.qkv_bias = c.attention_bias, .rope = c.rope_table}) {}
};

std::unique_ptr<LanguageModel> make(const Glm4Config& c) {
  return std::make_unique<CausalLM<Glm4Config, Layer>>(c, 1.0f, c.rms_norm_eps);
}

}  // namespace

Creator glm4() { return creator(make); }

}  // namespace mlxcpp::llm

// Granite 3 (IBM): Llama with multipliers on embeddings, attention scores, residuals and logits.
// Reference: transformers modeling_granite.py.
#include "llm/blocks/causal_lm.h"
#include "llm/blocks/decoder_layer.h"
#include "llm/models.h"

namespace mlxcpp::llm {
namespace {

struct GraniteConfig : DecoderConfig {
  float embedding_multiplier = 1, attention_multiplier = 1, logits_scaling = 1;
  std::shared_ptr<const nn::RoPE> rope_table;

  void fields(ConfigReader& v) {
    DecoderConfig::fields(v);
    sliding_window.reset();  // a key that the reference passes over
    v.maybe("embedding_multiplier", embedding_multiplier);
    v.maybe("attention_multiplier", attention_multiplier);
    v.maybe("residual_multiplier", residual_multiplier);
    v.maybe("logits_scaling", logits_scaling);
    if (logits_scaling == 0) throw Error("{}: 'logits_scaling' must not be 0", v.where());
    logits_multiplier = 1 / logits_scaling;
    bool rope_traditional = false;  // GGUF files order the rotated pairs so
    v.maybe("rope_traditional", rope_traditional);
    rope.read(v, head_size());
    rope_table = std::make_shared<const nn::RoPE>(rope, rope_traditional);
  }
};

struct Layer final : PreNormLayer<> {
  Layer(const GraniteConfig& c, int)
      : PreNormLayer(c, gated_mlp(c),
                     AttentionOptions{.scale = c.attention_multiplier,
                                      .qkv_bias = c.attention_bias,
                                      .output_bias = c.attention_bias,
                                      .rope = c.rope_table}) {}
};

std::unique_ptr<LanguageModel> make(const GraniteConfig& c) {
  return std::make_unique<CausalLM<GraniteConfig, Layer>>(c, c.embedding_multiplier,
                                                          c.rms_norm_eps);
}

}  // namespace

Creator granite() { return creator(make); }

}  // namespace mlxcpp::llm

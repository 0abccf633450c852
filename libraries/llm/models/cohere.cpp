// Command R (Cohere): attention and MLP side by side on one LayerNorm without bias, pairs of
// neighbours turn, scaled logits. Reference: transformers modeling_cohere.py.
#include "llm/blocks/causal_lm.h"
#include "llm/blocks/decoder_layer.h"
#include "llm/models.h"

namespace mlxcpp::llm {
namespace {

struct CohereConfig : DecoderConfig {
  bool use_qk_norm = false;
  std::shared_ptr<const nn::RoPE> rope_table;

  CohereConfig() {
    rms_norm_eps = 1e-5f;
    norm_bias = false;
    tie_word_embeddings = true;
    rope.theta = 500000;
    logits_multiplier = 0.0625f;
  }

  void fields(ConfigReader& v) {
    DecoderConfig::fields(v);
    sliding_window.reset();  // a key that the reference passes over
    v.maybe("layer_norm_eps", rms_norm_eps);
    v.maybe("logit_scale", logits_multiplier);
    v.maybe("use_qk_norm", use_qk_norm);
    v.only("mlp_bias", false);
    rope.read(v, head_size());
    rope_table = std::make_shared<const nn::RoPE>(rope, true);
  }
};

struct Layer final : ParallelLayer {
  Layer(const CohereConfig& c, int)
      : ParallelLayer(c, gated_mlp(c),
                      {.qkv_bias = c.attention_bias,
                       .output_bias = c.attention_bias,
                       .qk_norm = c.use_qk_norm ? QkNorm::layer_by_head : QkNorm::none,
                       .rope = c.rope_table}) {}
};

std::unique_ptr<LanguageModel> make(const CohereConfig& c) {
  return std::make_unique<CausalLM<CohereConfig, Layer, nn::LayerNorm>>(c, 1.0f, c.rms_norm_eps,
                                                                        true, c.norm_bias);
}

}  // namespace

Creator cohere() { return creator(make); }

}  // namespace mlxcpp::llm

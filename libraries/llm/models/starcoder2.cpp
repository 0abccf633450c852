// StarCoder2 (arXiv 2402.19173): LayerNorm, biases everywhere, an MLP without gate, a sliding
// window. Reference: transformers modeling_starcoder2.py.
#include "llm/blocks/causal_lm.h"
#include "llm/blocks/decoder_layer.h"
#include "llm/models.h"

namespace mlxcpp::llm {
namespace {

struct Starcoder2Config : DecoderConfig {
  bool use_bias = true;
  std::shared_ptr<const nn::RoPE> rope_table;

  Starcoder2Config() {
    hidden_act = "gelu_pytorch_tanh";
    rms_norm_eps = 1e-5f;
    tie_word_embeddings = true;
    names.up_proj = "c_fc";
    names.down_proj = "c_proj";
  }

  void fields(ConfigReader& v) {
    DecoderConfig::fields(v);
    v.maybe("norm_epsilon", rms_norm_eps);
    v.maybe("use_bias", use_bias);
    v.only("mlp_type", "default");
    v.only("norm_type", "layer_norm");
    mlp_bias = use_bias;  // attention_bias repeats it
    rope.read(v, head_size());
    rope_table = std::make_shared<const nn::RoPE>(rope);
  }
};

struct Layer final : PreNormLayer<Attention, nn::LayerNorm> {
  Layer(const Starcoder2Config& c, int index)
      : PreNormLayer(c, std::make_unique<MLP>(c),
                     AttentionOptions{.qkv_bias = c.use_bias,
                                      .output_bias = c.use_bias,
                                      .window = c.window(index),
                                      .rope = c.rope_table}) {}
};

std::unique_ptr<LanguageModel> make(const Starcoder2Config& c) {
  return std::make_unique<CausalLM<Starcoder2Config, Layer, nn::LayerNorm>>(c, 1.0f,
                                                                            c.rms_norm_eps);
}

}  // namespace

Creator starcoder2() { return creator(make); }

}  // namespace mlxcpp::llm

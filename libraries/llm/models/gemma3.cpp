// Gemma 3, text (arXiv 2503.19786). Reference: transformers modeling_gemma3.py. Norms before and
// after attention and MLP, of the form 1 + weight; norms on queries and keys; sliding layers with a
// rope base of their own, every sixth layer full.
#include <cmath>

#include "llm/blocks/causal_lm.h"
#include "llm/blocks/decoder_layer.h"
#include "llm/models.h"

namespace mlxcpp::llm {
namespace {

struct Gemma3Config : DecoderConfig {
  float query_pre_attn_scalar = 256;
  float attn_logit_softcapping = 0;
  RopeByLayerType ropes;

  Gemma3Config() {  // the published text configuration may leave these out
    vocab_size = 262208;
    hidden_size = 2304;
    intermediate_size = 9216;
    num_hidden_layers = 26;
    num_attention_heads = 8;
    num_key_value_heads = 4;
    head_dim = 256;
    max_position_embeddings = 131072;
    hidden_act = "gelu_pytorch_tanh";
    tie_word_embeddings = true;
    embedding_module_scales = true;
    sliding_window = 4096;
    norm_plus_one = true;
  }

  void fields(ConfigReader& v) {
    DecoderConfig::fields(v);
    read_activation(v, "hidden_activation", hidden_act);
    v.maybe("query_pre_attn_scalar", query_pre_attn_scalar);
    read_softcap(v, "attn_logit_softcapping", attn_logit_softcapping);
    read_softcap(v, "final_logit_softcapping", final_logit_softcapping);
    v.only("use_bidirectional_attention", false);  // EmbeddingGemma: not a language model
    if (!(query_pre_attn_scalar > 0))
      throw Error("{}: 'query_pre_attn_scalar' must be positive, found {}", v.where(),
                  query_pre_attn_scalar);

    int sliding_window_pattern = 6;
    for (const char* key : {"_sliding_window_pattern", "sliding_window_pattern"})
      read_size(v, key, sliding_window_pattern);
    if (layer_types.empty())
      for (int i = 1; i <= num_hidden_layers; ++i)
        layer_types.push_back(i % sliding_window_pattern == 0 ? "full_attention"
                                                              : "sliding_attention");
    ropes.read(v, head_size());
  }
};

struct Layer final : SandwichLayer {
  Layer(const Gemma3Config& c, int index)
      : SandwichLayer(c, kGemma, gated_mlp(c),
                      {.scale = 1.0f / std::sqrt(c.query_pre_attn_scalar),
                       .qkv_bias = c.attention_bias,
                       .output_bias = c.attention_bias,
                       .qk_norm = QkNorm::rms_plus_one,
                       .window = c.window(index),
                       .softcap = c.attn_logit_softcapping,
                       .rope = c.is_sliding(index) ? c.ropes.sliding : c.ropes.full}) {}
};

struct Gemma3 final : CausalLM<Gemma3Config, Layer> {
  explicit Gemma3(const Gemma3Config& c)
      : CausalLM(c, std::sqrt(static_cast<float>(c.hidden_size)), c.rms_norm_eps, true) {}

  // Multimodal checkpoints hold the language model under a prefix (old and new form), and towers
  // beside it.
  nn::Weights sanitize(nn::Weights weights) const override {
    return CausalLM::sanitize(language_model_weights(std::move(weights)));
  }
};

std::unique_ptr<LanguageModel> make(const Gemma3Config& c) { return std::make_unique<Gemma3>(c); }
std::unique_ptr<LanguageModel> make_text_part(const TextPart<Gemma3Config>& c) {
  return make(c.text);
}

}  // namespace

Creator gemma3_text() { return creator(make); }

// The multimodal checkpoint's language model alone.
Creator gemma3() { return creator(make_text_part); }

}  // namespace mlxcpp::llm

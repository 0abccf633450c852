// Gemma (arXiv 2403.08295): Llama with norms of the form 1 + weight, embeddings times the square
// root of the hidden size, and GELU. Gemma 2 (arXiv 2408.00118): norms on both sides of attention
// and MLP, every other layer sees a window, attention scores and logits are softly capped.
// Reference: transformers modeling_gemma.py, modeling_gemma2.py.
#include <cmath>

#include "llm/blocks/causal_lm.h"
#include "llm/blocks/decoder_layer.h"
#include "llm/models.h"

namespace mlxcpp::llm {
namespace {

struct GemmaConfig : DecoderConfig {
  std::shared_ptr<const nn::RoPE> rope_table;

  GemmaConfig() {  // the published configurations may leave these out
    vocab_size = 256000;
    hidden_size = 3072;
    intermediate_size = 24576;
    num_hidden_layers = 28;
    num_attention_heads = 16;
    num_key_value_heads = 16;
    head_dim = 256;
    max_position_embeddings = 8192;
    hidden_act = "gelu_pytorch_tanh";
    tie_word_embeddings = true;
    embedding_module_scales = true;
    norm_plus_one = true;
  }

  void fields(ConfigReader& v) {
    DecoderConfig::fields(v);
    if (hidden_act == "gelu") hidden_act = "gelu_pytorch_tanh";  // what the first release meant
    read_activation(v, "hidden_activation", hidden_act);
    v.only("use_bidirectional_attention", false);
    rope.read(v, head_size());
    rope_table = std::make_shared<const nn::RoPE>(rope);
  }

  AttentionOptions attention(int layer) const {
    return {.qkv_bias = attention_bias,
            .output_bias = attention_bias,
            .window = window(layer),
            .rope = rope_table};
  }
};

struct Gemma2Config : GemmaConfig {
  float query_pre_attn_scalar = 256;
  float attn_logit_softcapping = 50;

  Gemma2Config() {
    hidden_size = 2304;
    intermediate_size = 9216;
    num_hidden_layers = 26;
    num_attention_heads = 8;
    num_key_value_heads = 4;
    sliding_window = 4096;
    final_logit_softcapping = 30;
  }

  void fields(ConfigReader& v) {
    GemmaConfig::fields(v);
    v.maybe("query_pre_attn_scalar", query_pre_attn_scalar);
    read_softcap(v, "attn_logit_softcapping", attn_logit_softcapping);
    read_softcap(v, "final_logit_softcapping", final_logit_softcapping);
    v.skip("sliding_window_size");  // repeats sliding_window
    if (!(query_pre_attn_scalar > 0))
      throw Error("{}: 'query_pre_attn_scalar' must be positive, found {}", v.where(),
                  query_pre_attn_scalar);
    if (layer_types.empty())
      for (int i = 0; i < num_hidden_layers; ++i)
        layer_types.push_back(i % 2 == 0 ? "sliding_attention" : "full_attention");
  }

  AttentionOptions attention(int layer) const {
    auto o = GemmaConfig::attention(layer);
    o.scale = 1.0f / std::sqrt(query_pre_attn_scalar);
    o.softcap = attn_logit_softcapping;
    return o;
  }
};

struct GemmaLayer final : PreNormLayer<> {
  GemmaLayer(const GemmaConfig& c, int index) : PreNormLayer(c, gated_mlp(c), c.attention(index)) {}
};

struct Gemma2Layer final : SandwichLayer {
  Gemma2Layer(const Gemma2Config& c, int index)
      : SandwichLayer(c, kGemma, gated_mlp(c), c.attention(index)) {}
};

template <class Config, class Layer>
std::unique_ptr<LanguageModel> make(const Config& c) {
  return std::make_unique<CausalLM<Config, Layer>>(c, std::sqrt(static_cast<float>(c.hidden_size)),
                                                   c.rms_norm_eps, c.norm_plus_one);
}

}  // namespace

Creator gemma() { return creator(make<GemmaConfig, GemmaLayer>); }
Creator gemma2() { return creator(make<Gemma2Config, Gemma2Layer>); }

}  // namespace mlxcpp::llm

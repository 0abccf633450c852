// Gemma 3, text (arXiv 2503.19786). Reference: transformers modeling_gemma3.py. Norms before and
// after attention and MLP, of the form 1 + weight; norms on queries and keys; sliding layers with a
// rope base of their own, every sixth layer full.
#include <cmath>

#include "llm/blocks/attention.h"
#include "llm/blocks/causal_lm.h"
#include "llm/blocks/mlp.h"
#include "llm/models.h"

namespace mlxcpp::llm {
namespace {

struct Gemma3Config : DecoderConfig {
  float query_pre_attn_scalar = 256;
  float attn_logit_softcapping = 0, final_logit_softcapping = 0;
  std::shared_ptr<const nn::RoPE> full_rope, sliding_rope;

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
    sliding_window = 4096;
  }

  void fields(ConfigReader& v) {
    DecoderConfig::fields(v);
    v.maybe("hidden_activation", hidden_act);
    v.maybe("query_pre_attn_scalar", query_pre_attn_scalar);
    v.maybe("attn_logit_softcapping", attn_logit_softcapping);
    v.maybe("final_logit_softcapping", final_logit_softcapping);
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

    // Older configs have a key for each base, and scaling for full attention alone; newer ones
    // rope_parameters by layer type.
    rope.theta = 1e6;
    rope.read(v, head_size(), "full_attention");
    full_rope = std::make_shared<const nn::RoPE>(rope);
    nn::RopeConfig local;
    local.head_dim = head_size();
    local.theta = 1e4;
    v.skip("rope_local_base_freq");
    if (v.json().contains("rope_parameters"))
      local.read(v, head_size(), "sliding_attention");
    else
      v.maybe("rope_local_base_freq", local.theta);
    sliding_rope = std::make_shared<const nn::RoPE>(local);
  }
};

struct Block final : nn::Module {
  Block(const Gemma3Config& c, int index)
      : input_layernorm(this, "input_layernorm", c.hidden_size, c.rms_norm_eps, true),
        self_attn(this, "self_attn", c,
                  AttentionOptions{.scale = 1.0f / std::sqrt(c.query_pre_attn_scalar),
                                   .qkv_bias = c.attention_bias,
                                   .output_bias = c.attention_bias,
                                   .qk_norm = true,
                                   .norm_plus_one = true,
                                   .window = c.window(index),
                                   .softcap = c.attn_logit_softcapping,
                                   .rope = c.is_sliding(index) ? c.sliding_rope : c.full_rope}),
        post_attention_layernorm(this, "post_attention_layernorm", c.hidden_size, c.rms_norm_eps,
                                 true),
        pre_feedforward_layernorm(this, "pre_feedforward_layernorm", c.hidden_size, c.rms_norm_eps,
                                  true),
        mlp(this, "mlp", c.hidden_size, c.intermediate_size, c.hidden_act),
        post_feedforward_layernorm(this, "post_feedforward_layernorm", c.hidden_size,
                                   c.rms_norm_eps, true) {}

  nn::Child<nn::RMSNorm> input_layernorm;
  nn::Child<Attention> self_attn;
  nn::Child<nn::RMSNorm> post_attention_layernorm, pre_feedforward_layernorm;
  nn::Child<GatedMLP> mlp;
  nn::Child<nn::RMSNorm> post_feedforward_layernorm;

  mx::array operator()(const mx::array& x, KVCache* cache) const {
    const auto h = x + post_attention_layernorm(self_attn(input_layernorm(x), cache));
    return h + post_feedforward_layernorm(mlp(pre_feedforward_layernorm(h)));
  }
};

struct Gemma3 final : CausalLM<Gemma3Config, Block> {
  explicit Gemma3(const Gemma3Config& c)
      : CausalLM(c, std::sqrt(static_cast<float>(c.hidden_size)), c.rms_norm_eps, true) {}

  mx::array logits(const mx::array& hidden) const override {
    return softcap(CausalLM::logits(hidden), c.final_logit_softcapping);
  }

  // Multimodal checkpoints hold the language model under a prefix (old and new form), and towers
  // beside it.
  nn::Weights sanitize(nn::Weights weights) const override {
    return CausalLM::sanitize(language_model_weights(std::move(weights)));
  }
};

// The configuration of the whole; pictures are left to the model that sees.
struct MultimodalConfig {
  Gemma3Config text;

  void fields(ConfigReader& v) {
    v.need("text_config", text);
    v.maybe("tie_word_embeddings", text.tie_word_embeddings);
    for (const char* key : {"vision_config", "boi_token_index", "eoi_token_index",
                            "image_token_index", "mm_tokens_per_image"})
      v.skip(key);
  }
};

std::unique_ptr<LanguageModel> make(const Gemma3Config& c) { return std::make_unique<Gemma3>(c); }
std::unique_ptr<LanguageModel> make_text(const MultimodalConfig& c) { return make(c.text); }

}  // namespace

Creator gemma3_text() { return creator(make); }

// The multimodal checkpoint's language model alone.
Creator gemma3() { return creator(make_text); }

}  // namespace mlxcpp::llm

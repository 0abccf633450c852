// Llama (arXiv 2302.13971, 2307.09288, 2407.21783) and the families that differ from it by a
// switch: Mistral (sliding window), Qwen2 (biases on q, k, v), Qwen3 (norms on queries and keys).
// Reference: transformers modeling_llama.py, modeling_mistral.py, modeling_qwen2.py,
// modeling_qwen3.py.
#include "llm/blocks/attention.h"
#include "llm/blocks/causal_lm.h"
#include "llm/blocks/mlp.h"
#include "llm/models.h"

namespace mlxcpp::llm {
namespace {

struct LlamaConfig : DecoderConfig {
  bool qkv_bias = false, output_bias = false, qk_norm = false;
  std::shared_ptr<const nn::RoPE> rope_table;

  void fields(ConfigReader& v) {
    DecoderConfig::fields(v);
    qkv_bias = output_bias = attention_bias;
    bool rope_traditional = false;  // GGUF files order the rotated pairs so
    v.maybe("rope_traditional", rope_traditional);
    rope.read(v, head_size());
    rope_table = std::make_shared<const nn::RoPE>(rope, rope_traditional);
  }
};

struct MistralConfig : LlamaConfig {};

struct Qwen2Config : LlamaConfig {
  bool use_sliding_window = false;
  int max_window_layers = 28;

  void fields(ConfigReader& v) {
    LlamaConfig::fields(v);
    qkv_bias = true;
    output_bias = false;
    v.maybe("use_sliding_window", use_sliding_window);
    v.maybe("max_window_layers", max_window_layers);
    if (!use_sliding_window) {
      sliding_window.reset();
    } else if (layer_types.empty()) {  // the first max_window_layers layers see everything
      for (int i = 0; i < num_hidden_layers; ++i)
        layer_types.push_back(i < max_window_layers ? "full_attention" : "sliding_attention");
    }
  }
};

struct Qwen3Config : Qwen2Config {
  Qwen3Config() { head_dim = 128; }

  void fields(ConfigReader& v) {
    Qwen2Config::fields(v);
    qkv_bias = output_bias = attention_bias;
    qk_norm = true;
  }
};

struct Block final : nn::Module {
  Block(const LlamaConfig& c, int index)
      : input_layernorm(this, "input_layernorm", c.hidden_size, c.rms_norm_eps),
        self_attn(this, "self_attn", c,
                  AttentionOptions{.qkv_bias = c.qkv_bias,
                                   .output_bias = c.output_bias,
                                   .qk_norm = c.qk_norm,
                                   .window = c.window(index),
                                   .rope = c.rope_table}),
        post_attention_layernorm(this, "post_attention_layernorm", c.hidden_size, c.rms_norm_eps),
        mlp(this, "mlp", c.hidden_size, c.intermediate_size, c.hidden_act, c.mlp_bias) {}

  nn::Child<nn::RMSNorm> input_layernorm;
  nn::Child<Attention> self_attn;
  nn::Child<nn::RMSNorm> post_attention_layernorm;
  nn::Child<GatedMLP> mlp;

  mx::array operator()(const mx::array& x, KVCache* cache) const {
    const auto h = x + self_attn(input_layernorm(x), cache);
    return h + mlp(post_attention_layernorm(h));
  }
};

template <class Config>
std::unique_ptr<LanguageModel> make(const Config& c) {
  return std::make_unique<CausalLM<LlamaConfig, Block>>(c, 1.0f, c.rms_norm_eps);
}

}  // namespace

Creator llama() { return creator(make<LlamaConfig>); }
Creator mistral() { return creator(make<MistralConfig>); }
Creator qwen2() { return creator(make<Qwen2Config>); }
Creator qwen3() { return creator(make<Qwen3Config>); }

}  // namespace mlxcpp::llm

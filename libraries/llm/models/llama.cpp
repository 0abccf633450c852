// Llama (arXiv 2302.13971, 2307.09288, 2407.21783) and the families that differ from it by a
// switch: Mistral (sliding window), Qwen2 (biases on q, k, v), MiMo (Qwen2 and layers that predict
// further tokens, which are dropped), Qwen3 (norms on queries and keys), SmolLM3 (layers without
// positions), Ernie 4.5 (pairs rotate as neighbours, biases everywhere).
// Reference: transformers modeling_llama.py, modeling_mistral.py, modeling_qwen2.py,
// modeling_qwen3.py, modeling_smollm3.py, modeling_ernie4_5.py; mlx_lm mimo.py.
#include "llm/blocks/causal_lm.h"
#include "llm/blocks/decoder_layer.h"
#include "llm/models.h"

namespace mlxcpp::llm {
namespace {

struct LlamaConfig : DecoderConfig {
  bool qkv_bias = false, output_bias = false;
  QkNorm qk_norm = QkNorm::none;
  bool rope_traditional = false;    // GGUF files order the rotated pairs so
  std::vector<int> no_rope_layers;  // 0: a layer without rope; empty: none is
  std::shared_ptr<const nn::RoPE> rope_table;

  void fields(ConfigReader& v) {
    DecoderConfig::fields(v);
    qkv_bias = output_bias = attention_bias;
    v.maybe("rope_traditional", rope_traditional);
    rope.read(v, head_size());
    rope_table = std::make_shared<const nn::RoPE>(rope, rope_traditional);
  }

  AttentionOptions attention(int layer) const {
    return {.qkv_bias = qkv_bias,
            .output_bias = output_bias,
            .qk_norm = qk_norm,
            .window = window(layer),
            .rope = has_rope(layer) ? rope_table : nullptr};
  }
  bool has_rope(int layer) const { return no_rope_layers.empty() || no_rope_layers[layer] != 0; }
};

struct MistralConfig : LlamaConfig {};

// Families without a window, whatever "sliding_window" says; layer_types may ask for one.
struct WindowlessConfig : LlamaConfig {
  void fields(ConfigReader& v) {
    LlamaConfig::fields(v);
    if (layer_types.empty()) sliding_window.reset();
  }
};

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
    qk_norm = QkNorm::rms;
  }
};

struct SmolLM3Config : LlamaConfig {
  SmolLM3Config() {
    tie_word_embeddings = true;
    rope.theta = 2e6;
  }

  void fields(ConfigReader& v) {
    LlamaConfig::fields(v);
    int no_rope_layer_interval = 4;
    read_size(v, "no_rope_layer_interval", no_rope_layer_interval);
    v.maybe("no_rope_layers", no_rope_layers);
    if (no_rope_layers.empty())
      for (int i = 1; i <= num_hidden_layers; ++i)
        no_rope_layers.push_back(i % no_rope_layer_interval != 0);
    if (no_rope_layers.size() != static_cast<size_t>(num_hidden_layers))
      throw Error("{}: 'no_rope_layers' has {} entries, expected {}, one a layer", v.where(),
                  no_rope_layers.size(), num_hidden_layers);
    bool use_sliding_window = false;
    v.maybe("use_sliding_window", use_sliding_window);
    v.skip("max_window_layers");
    if (!use_sliding_window) {
      sliding_window.reset();
    } else if (layer_types.empty()) {
      for (int i = 0; i < num_hidden_layers; ++i)
        layer_types.push_back(has_rope(i) ? "full_attention" : "sliding_attention");
    }
  }
};

struct Ernie45Config : WindowlessConfig {
  Ernie45Config() {
    num_key_value_heads = 2;
    head_dim = 128;
    rms_norm_eps = 1e-5f;
    tie_word_embeddings = true;
    rope.theta = 500000;
    rope_traditional = true;
  }

  void fields(ConfigReader& v) {
    forget_if_null(v, "head_dim", head_dim);
    forget_if_null(v, "num_key_value_heads", num_key_value_heads);
    WindowlessConfig::fields(v);
    bool use_bias = false;
    v.maybe("use_bias", use_bias);
    v.only("compression_ratio", 1.0);
    qkv_bias = output_bias = mlp_bias = use_bias;
  }
};

struct Block final : PreNormLayer<> {
  Block(const LlamaConfig& c, int index) : PreNormLayer(c, gated_mlp(c), c.attention(index)) {}
};

struct Llama : CausalLM<LlamaConfig, Block> {
  explicit Llama(const LlamaConfig& c) : CausalLM(c, 1.0f, c.rms_norm_eps) {}
};

struct MiMo final : Llama {
  using Llama::Llama;

  nn::Weights sanitize(nn::Weights weights) const override {
    std::erase_if(weights, [](const auto& w) { return w.first.starts_with("model.mtp_layers."); });
    return Llama::sanitize(std::move(weights));
  }
};

template <class Config, class Model = Llama>
std::unique_ptr<LanguageModel> make(const Config& c) {
  return std::make_unique<Model>(c);
}

}  // namespace

Creator llama() { return creator(make<WindowlessConfig>); }
Creator mistral() { return creator(make<MistralConfig>); }
Creator qwen2() { return creator(make<Qwen2Config>); }
Creator mimo() { return creator(make<Qwen2Config, MiMo>); }
Creator qwen3() { return creator(make<Qwen3Config>); }
Creator smollm3() { return creator(make<SmolLM3Config>); }
Creator ernie4_5() { return creator(make<Ernie45Config>); }

}  // namespace mlxcpp::llm

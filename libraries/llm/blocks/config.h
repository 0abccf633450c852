#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "nn/rope.h"

namespace mlxcpp::llm {

// What a family's checkpoints call the parts of a decoder. The tree has the published names, so
// that settings and adapters that speak of a layer by its path find it.
struct DecoderNames {
  std::string model = "model", embed_tokens = "embed_tokens", layers = "layers", norm = "norm",
              lm_head = "lm_head";
  // of a layer
  std::string input_layernorm = "input_layernorm", self_attn = "self_attn",
              post_attention_layernorm = "post_attention_layernorm", mlp = "mlp";
  // of attention
  std::string q_proj = "q_proj", k_proj = "k_proj", v_proj = "v_proj", o_proj = "o_proj",
              q_norm = "q_norm", k_norm = "k_norm";
  std::string qkv_proj;  // one projection for all: rows of the queries, then keys, then values
  // of the MLP
  std::string gate_proj = "gate_proj", up_proj = "up_proj", down_proj = "down_proj";
  std::string gate_up_proj;  // both in one, rows of the gate first
  std::string inner_norm;    // RMS norm of what down_proj gets; "": none
};

// The fields of config.json that nearly every decoder has, under their published names. A family's
// config derives from it, sets its own defaults (those of transformers' configuration class) in its
// constructor, and adds its own fields.
struct DecoderConfig {
  int vocab_size = 0;
  int hidden_size = 0;
  int num_hidden_layers = 0;
  int intermediate_size = 0;
  int num_attention_heads = 0;
  std::optional<int> num_key_value_heads;
  std::optional<int> head_dim;
  int max_position_embeddings = 0;
  float rms_norm_eps = 1e-6f;  // of LayerNorm, too; families with another key for it read that
  std::string hidden_act = "silu";
  bool tie_word_embeddings = false;
  bool attention_bias = false;
  bool mlp_bias = false;
  nn::RopeConfig rope;
  DecoderNames names;  // not of config.json: set by the family's constructor
  std::optional<int> sliding_window;
  std::vector<std::string> layer_types;  // of layer_kinds, one a layer; may be empty
  // Not of config.json: set by the family's constructor.
  std::vector<std::string> layer_kinds = {"full_attention", "sliding_attention"};

  // What only some families have: they set it or read it themselves.
  bool norm_plus_one = false;            // RMS norms are of Gemma's form, 1 + weight
  bool embedding_module_scales = false;  // in the reference, embed_tokens answers scaled: so traces
  bool norm_bias = true;                 // LayerNorms have a bias
  bool lm_head_bias = false;
  float residual_multiplier = 1.0f;  // on what attention and MLP add
  float logits_multiplier = 1.0f;
  float final_logit_softcapping = 0.0f;  // 0: none

  int kv_heads() const { return num_key_value_heads.value_or(num_attention_heads); }
  int head_size() const { return head_dim.value_or(hidden_size / num_attention_heads); }
  bool is_sliding(
      int layer) const;  // by layer_types; without them every layer, if there is a window
  std::optional<int> window(int layer) const;  // of a sliding layer

  // Reads and validates: sizes are positive (required unless the family has a default), heads
  // divide.
  void fields(ConfigReader& v);

 protected:
  // The same without intermediate_size, for families that have a list of them.
  void fields_but_intermediate_size(ConfigReader& v);
};

// The largest size: sums of sizes, and small multiples of them, stay numbers. No model comes near.
inline constexpr int kLargestSize = 1 << 24;

// A size that must be positive, kLargestSize at most; required unless `out` already has a default.
void read_size(ConfigReader& v, const char* key, int& out);

// The same of layers, or of other modules that are made one by one: each takes memory before
// anybody asks for its weights, and no model has more than 10,000.
void read_count(ConfigReader& v, const char* key, int& out);

// Positions that the model was made for: positive. Absent or null: `out` keeps its value.
void read_context_length(ConfigReader& v, const char* key, int& out);

// A number of layers, or one of them: 0 or more. Absent or null: `out` keeps its value.
void read_layer(ConfigReader& v, const char* key, int& out);

// The name of an activation (nn::activation_names()). Absent or null: `out` keeps its value.
void read_activation(ConfigReader& v, const char* key, std::string& out);

// A base of wavelengths: positive. Absent or null: `out` keeps its value.
void read_theta(ConfigReader& v, const char* key, double& out);

// What kind each layer is of: one of `kinds` for each of `layers`. Absent, null or empty: `out` is
// empty.
void read_layer_kinds(ConfigReader& v, const char* key, int layers,
                      const std::vector<std::string>& kinds, std::vector<std::string>& out);

// null means none, whatever the default is that stands in `out`.
template <class T>
void forget_if_null(const ConfigReader& v, const char* key, std::optional<T>& out) {
  if (const auto it = v.json().find(key); it != v.json().end() && it->is_null()) out.reset();
}

// The number of heads that `size`, read from `size_key`, is divided into: a positive divisor of
// it. even_heads: of an even size each, as rotary positions need it.
void read_heads(ConfigReader& v, const char* key, int& out, const char* size_key, int size,
                bool even_heads = false);

// A soft cap: positive, or null for none (0). Absent: `out` keeps its value.
void read_softcap(ConfigReader& v, const char* key, float& out);

// Rope of models whose sliding layers have a base of their own (Gemma 3). Older configs have a key
// for each base (rope_theta, rope_local_base_freq), and rope_scaling for full attention alone;
// newer ones rope_parameters by layer type, which win over the bases, but not over rope_scaling.
struct RopeByLayerType {
  std::shared_ptr<const nn::RoPE> full, sliding;

  void read(ConfigReader& v, int head_dim);
};

// The keys of pictures and sound in the config of a multimodal checkpoint.
void skip_media_keys(ConfigReader& v);

// config.json of a multimodal checkpoint whose language model alone is wanted: towers and what
// joins them are left to the model that sees and hears.
template <class TextConfig>
struct TextPart {
  TextConfig text;

  void fields(ConfigReader& v) {
    v.need("text_config", text);
    v.maybe("tie_word_embeddings", text.tie_word_embeddings);
    skip_media_keys(v);
  }
};

}  // namespace mlxcpp::llm

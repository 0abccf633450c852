// EXAONE 4.0 (arXiv 2507.11407): norms after attention and MLP instead of before, norms on queries
// and keys; sliding layers rotate, full ones have no positions. Reference: transformers
// modeling_exaone4.py.
#include "llm/blocks/attention.h"
#include "llm/blocks/causal_lm.h"
#include "llm/blocks/mlp.h"
#include "llm/models.h"

namespace mlxcpp::llm {
namespace {

struct Exaone4Config : DecoderConfig {
  std::shared_ptr<const nn::RoPE> rope_table;

  Exaone4Config() { rms_norm_eps = 1e-5f; }

  void fields(ConfigReader& v) {
    DecoderConfig::fields(v);
    read_layer_types(v);
    v.only("reorder_and_qk_norm", true);
    rope.read(v, head_size());
    rope_table = std::make_shared<const nn::RoPE>(rope);
  }

  // sliding_window_pattern is "LLLG" (local and global layers, repeated) or 4 (every fourth is
  // global); without a window every layer is global.
  void read_layer_types(ConfigReader& v) {
    Json pattern;
    v.maybe("sliding_window_pattern", pattern);
    if (!sliding_window || !layer_types.empty()) return;
    std::string letters = "LLLG";
    if (pattern.is_number_integer() && pattern > 0 && pattern < 1000)
      letters = std::string(pattern.get<size_t>() - 1, 'L') + "G";
    else if (pattern.is_string())
      letters = pattern;
    else if (!pattern.is_null())
      letters.clear();
    if (letters.empty() || letters.find_first_not_of("LG") != std::string::npos)
      throw Error("{}: 'sliding_window_pattern' is {}, expected letters L and G, or a number",
                  v.where(), describe(pattern));
    for (int i = 0; i < num_hidden_layers; ++i)
      layer_types.push_back(letters[i % letters.size()] == 'L' ? "sliding_attention"
                                                               : "full_attention");
  }

  bool has_rope(int layer) const { return !sliding_window || is_sliding(layer); }
};

struct Block final : nn::Module {
  Block(const Exaone4Config& c, int index)
      : self_attn(this, "self_attn", c,
                  AttentionOptions{.qk_norm = QkNorm::rms,
                                   .window = c.window(index),
                                   .rope = c.has_rope(index) ? c.rope_table : nullptr}),
        post_attention_layernorm(this, "post_attention_layernorm", c.hidden_size, c.rms_norm_eps),
        mlp(this, "mlp", c.hidden_size, c.intermediate_size, c.hidden_act),
        post_feedforward_layernorm(this, "post_feedforward_layernorm", c.hidden_size,
                                   c.rms_norm_eps) {}

  nn::Child<Attention> self_attn;
  nn::Child<nn::RMSNorm> post_attention_layernorm;
  nn::Child<GatedMLP> mlp;
  nn::Child<nn::RMSNorm> post_feedforward_layernorm;

  mx::array operator()(const mx::array& x, KVCache* cache) const {
    const auto h = x + post_attention_layernorm(self_attn(x, cache));
    return h + post_feedforward_layernorm(mlp(h));
  }
};

std::unique_ptr<LanguageModel> make(const Exaone4Config& c) {
  return std::make_unique<CausalLM<Exaone4Config, Block>>(c, 1.0f, c.rms_norm_eps);
}

}  // namespace

Creator exaone4() { return creator(make); }

}  // namespace mlxcpp::llm

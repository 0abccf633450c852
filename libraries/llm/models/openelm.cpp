// OpenELM (arXiv 2404.14619): Llama whose layers grow, each with heads and an MLP of its own size.
// Reference: mlx_lm openelm.py; apple/OpenELM modeling_openelm.py.
#include <algorithm>
#include <cmath>

#include "llm/blocks/causal_lm.h"
#include "llm/blocks/decoder_layer.h"
#include "llm/models.h"

namespace mlxcpp::llm {
namespace {

struct OpenElmConfig : DecoderConfig {
  std::vector<int> num_query_heads, num_kv_heads;
  std::vector<double> ffn_multipliers;
  int ffn_dim_divisor = 0;
  bool normalize_qk_projections = true;
  std::shared_ptr<const nn::RoPE> rope_table;

  OpenElmConfig() {
    hidden_act = "swish";
    tie_word_embeddings = true;
    names.model = "transformer";
    names.embed_tokens = "token_embeddings";
    names.input_layernorm = "attn_norm";
    names.self_attn = "attn";
    names.qkv_proj = "qkv_proj";
    names.o_proj = "out_proj";
    names.post_attention_layernorm = "ffn_norm";
    names.mlp = "ffn";
    names.gate_up_proj = "proj_1";
    names.down_proj = "proj_2";
  }

  void fields(ConfigReader& v) {
    read_size(v, "vocab_size", vocab_size);
    read_size(v, "model_dim", hidden_size);
    read_count(v, "num_transformer_layers", num_hidden_layers);
    int dims = 0;
    read_size(v, "head_dim", dims);
    if (dims % 2 != 0) throw Error("{}: 'head_dim' must be even, found {}", v.where(), dims);
    head_dim = dims;
    v.need("num_query_heads", num_query_heads);
    v.need("num_kv_heads", num_kv_heads);
    v.need("ffn_multipliers", ffn_multipliers);
    read_size(v, "ffn_dim_divisor", ffn_dim_divisor);
    read_activation(v, "activation_fn_name", hidden_act);
    v.maybe("normalize_qk_projections", normalize_qk_projections);
    v.maybe("share_input_output_layers", tie_word_embeddings);
    v.maybe("rms_norm_eps", rms_norm_eps);
    read_context_length(v, "max_context_length", max_position_embeddings);
    bool ffn_gate_apart = false;  // GGUF files have two projections in place of proj_1
    v.maybe("ffn_gate_apart", ffn_gate_apart);
    if (ffn_gate_apart) names.gate_up_proj = "";
    v.only("ffn_with_glu", true);
    v.only("normalization_layer_name", "rms_norm");
    // The lists above follow from these.
    for (const char* key : {"num_gqa_groups", "qkv_multipliers"}) v.skip(key);

    check_list(v, "num_query_heads", num_query_heads);
    check_list(v, "num_kv_heads", num_kv_heads);
    check_list(v, "ffn_multipliers", ffn_multipliers);
    for (int i = 0; i < num_hidden_layers; ++i)
      if (num_query_heads[i] % num_kv_heads[i] != 0)
        throw Error("{}: 'num_kv_heads' of layer {} is {}, expected a divisor of {} query heads",
                    v.where(), i, num_kv_heads[i], num_query_heads[i]);
    for (int i = 0; i < num_hidden_layers; ++i) {
      if (num_query_heads[i] > kLargestSize / dims)
        throw Error(
            "{}: 'num_query_heads' of layer {} is {}, expected {} at most, with heads of {}",
            v.where(), i, num_query_heads[i], kLargestSize / dims, dims);
      if (ffn_multipliers[i] * hidden_size > kLargestSize)
        throw Error("{}: 'ffn_multipliers' of layer {} is {}, which makes it wider than {}",
                    v.where(), i, ffn_multipliers[i], kLargestSize);
    }

    rope.head_dim = dims;
    read_theta(v, "rope_freq_constant", rope.theta);
    v.skip("rope_max_length");  // bounds the reference's tables
    rope_table = std::make_shared<const nn::RoPE>(rope);
  }

  // The config of one layer, as the blocks read it.
  DecoderConfig layer(int i) const {
    DecoderConfig c = *this;
    c.num_attention_heads = num_query_heads[i];
    c.num_key_value_heads = num_kv_heads[i];
    // Rounded to a multiple of the divisor, but not down by more than a tenth.
    const double wanted = ffn_multipliers[i] * hidden_size;
    const int divisor = ffn_dim_divisor;
    int size = std::max(divisor, static_cast<int>(wanted + divisor / 2.0) / divisor * divisor);
    if (size < 0.9 * wanted) size += divisor;
    c.intermediate_size = size;
    return c;
  }

 private:
  template <class T>
  void check_list(ConfigReader& v, const char* key, const std::vector<T>& list) const {
    if (list.size() != static_cast<size_t>(num_hidden_layers))
      throw Error("{}: '{}' has {} entries, expected {}, one a layer", v.where(), key, list.size(),
                  num_hidden_layers);
    for (const T x : list)
      if (!(x > 0 && x < (1 << 20)))
        throw Error("{}: '{}' has an entry {} out of range", v.where(), key, x);
  }
};

struct Layer final : PreNormLayer<> {
  Layer(const OpenElmConfig& c, int index) : Layer(c, c.layer(index)) {}

 private:
  Layer(const OpenElmConfig& c, const DecoderConfig& own)
      : PreNormLayer(
            own, gated_mlp(own),
            AttentionOptions{.qk_norm = c.normalize_qk_projections ? QkNorm::rms : QkNorm::none,
                             .rope = c.rope_table}) {}
};

std::unique_ptr<LanguageModel> make(const OpenElmConfig& c) {
  return std::make_unique<CausalLM<OpenElmConfig, Layer>>(c, 1.0f, c.rms_norm_eps);
}

}  // namespace

Creator openelm() { return creator(make); }

}  // namespace mlxcpp::llm

// EXAONE 4.0 (arXiv 2507.11407): norms after attention and MLP instead of before, norms on queries
// and keys; sliding layers rotate, full ones have no positions. EXAONE-MoE: the same attention,
// norms before, and DeepSeek-V3's routing. Reference: transformers modeling_exaone4.py,
// modeling_exaone_moe.py.
#include "llm/blocks/attention.h"
#include "llm/blocks/causal_lm.h"
#include "llm/blocks/decoder_layer.h"
#include "llm/blocks/mlp.h"
#include "llm/blocks/moe.h"
#include "llm/models.h"

namespace mlxcpp::llm {
namespace {

struct Exaone4Config : DecoderConfig {
  std::shared_ptr<const nn::RoPE> rope_table;

  Exaone4Config() {
    rms_norm_eps = 1e-5f;
    sliding_window = 4096;
  }

  void fields(ConfigReader& v) {
    forget_if_null(v, "sliding_window", sliding_window);
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

  AttentionOptions attention_of(int layer) const {
    return {.qk_norm = QkNorm::rms,
            .window = window(layer),
            .rope = !sliding_window || is_sliding(layer) ? rope_table : nullptr};
  }
};

struct ExaoneMoeConfig : Exaone4Config {
  MoEOptions moe;
  std::vector<std::string> mlp_layer_types;  // "dense" or "sparse"

  void fields(ConfigReader& v) {
    Exaone4Config::fields(v);
    RoutingOptions& r = moe.routing;
    r = {.scores = RoutingOptions::Scores::sigmoid,
         .norm_topk_prob = true,
         .routed_scaling_factor = 2.5f};
    v.need("num_experts", r.num_experts);
    v.need("num_experts_per_tok", r.num_experts_per_tok);
    v.maybe("norm_topk_prob", r.norm_topk_prob);
    v.maybe("routed_scaling_factor", r.routed_scaling_factor);
    v.maybe("n_group", r.n_group);
    v.maybe("topk_group", r.topk_group);
    r.check(v.where());
    v.only("scoring_func", "sigmoid");
    v.only("topk_method", "noaux_tc");
    read_size(v, "moe_intermediate_size", moe.moe_intermediate_size);
    moe.shared_intermediate_size =
        read_shared_size(v, "num_shared_experts", 1, moe.moe_intermediate_size);
    int first_k_dense_replace = 1;
    moe.correction_bias = "e_score_correction_bias";
    read_layer(v, "first_k_dense_replace", first_k_dense_replace);
    read_layer_kinds(v, "mlp_layer_types", num_hidden_layers, {"dense", "sparse"}, mlp_layer_types);
    v.skip("is_moe_layer");  // mlp_layer_types in another form
    if (mlp_layer_types.empty())
      for (int i = 0; i < num_hidden_layers; ++i)
        mlp_layer_types.push_back(i < first_k_dense_replace ? "dense" : "sparse");
  }

  std::unique_ptr<nn::Layer> mlp(int layer) const {
    if (mlp_layer_types[layer] != "sparse") return gated_mlp(*this);
    return std::make_unique<MoE>(hidden_size, hidden_act, moe);
  }
};

struct Block final : SandwichLayer {
  Block(const Exaone4Config& c, int index)
      : SandwichLayer(c, kAfterAlone, gated_mlp(c), c.attention_of(index)) {}
};

struct MoeBlock final : PreNormLayer<> {
  MoeBlock(const ExaoneMoeConfig& c, int index)
      : PreNormLayer(c, c.mlp(index), c.attention_of(index)) {}
};

struct ExaoneMoe final : CausalLM<ExaoneMoeConfig, MoeBlock> {
  explicit ExaoneMoe(const ExaoneMoeConfig& c) : CausalLM(c, 1.0f, c.rms_norm_eps) {}

  nn::Weights sanitize(nn::Weights weights) const override {
    weights = drop_further_layers(CausalLM::sanitize(std::move(weights)), "model.layers.",
                                  c.num_hidden_layers);
    return stack_experts(std::move(weights));
  }
};

std::unique_ptr<LanguageModel> make_moe(const ExaoneMoeConfig& c) {
  return std::make_unique<ExaoneMoe>(c);
}
std::unique_ptr<LanguageModel> make(const Exaone4Config& c) {
  return std::make_unique<CausalLM<Exaone4Config, Block>>(c, 1.0f, c.rms_norm_eps);
}

}  // namespace

Creator exaone4() { return creator(make); }
Creator exaone_moe() { return creator(make_moe); }

}  // namespace mlxcpp::llm

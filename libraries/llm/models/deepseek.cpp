// DeepSeek's mixtures of experts, and those made after them. The first layers are dense; then each
// token goes to a few routed experts, and all go through shared ones.
//   deepseek (arXiv 2401.06066)     softmax routing
//   deepseek_v2 (2405.04434)        latent attention; the choice may be limited to the best groups
//   deepseek_v3, R1 (2412.19437)    sigmoid routing, steered by a correction bias
//   glm4_moe_lite                   V3 with a list of the layers that are dense
//   dots1, glm4_moe                 V3's routing; plain attention with norms on queries and keys
// Reference: transformers modeling_deepseek_v2.py, modeling_deepseek_v3.py, modeling_dots1.py,
// modeling_glm4_moe.py, modeling_glm4_moe_lite.py; mlx_lm deepseek.py. Layers that predict further
// tokens are dropped.
#include <cmath>

#include "llm/blocks/causal_lm.h"
#include "llm/blocks/decoder_layer.h"
#include "llm/blocks/mla.h"
#include "llm/blocks/moe.h"
#include "llm/models.h"

namespace mlxcpp::llm {
namespace {

struct DeepseekConfig : DecoderConfig {
  RoutingOptions routing;
  bool correction_bias = false;
  int shared_intermediate_size = 0, moe_intermediate_size = 0;
  int n_shared_experts = 0, first_k_dense_replace = 0, moe_layer_freq = 1;
  std::vector<std::string> mlp_layer_types;  // "dense" or "sparse"; empty: by the two above
  bool output_bias = false;
  QkNorm qk_norm = QkNorm::none;
  std::shared_ptr<const nn::RoPE> rope_table;

  void fields(ConfigReader& v) {
    DecoderConfig::fields(v);
    output_bias = attention_bias;
    read_size(v, "n_routed_experts", routing.num_experts);
    v.need("num_experts_per_tok", routing.num_experts_per_tok);
    v.maybe("norm_topk_prob", routing.norm_topk_prob);
    v.maybe("routed_scaling_factor", routing.routed_scaling_factor);
    v.maybe("n_group", routing.n_group);
    v.maybe("topk_group", routing.topk_group);
    routing.check(v.where());
    read_size(v, "moe_intermediate_size", moe_intermediate_size);
    shared_intermediate_size =
        read_shared_size(v, "n_shared_experts", n_shared_experts, moe_intermediate_size);
    read_layer(v, "first_k_dense_replace", first_k_dense_replace);
    read_size(v, "moe_layer_freq", moe_layer_freq);
    read_layer_kinds(v, "mlp_layer_types", num_hidden_layers, {"dense", "sparse"}, mlp_layer_types);
  }

  void read_rope(ConfigReader& v, int dims, bool interleave) {
    v.maybe("rope_interleave", interleave);
    rope.read(v, dims);
    rope_table = std::make_shared<const nn::RoPE>(rope, interleave);
  }

  void route_by_sigmoid() {
    routing.scores = RoutingOptions::Scores::sigmoid;
    correction_bias = true;
  }

  bool is_sparse(int layer) const {
    if (!mlp_layer_types.empty()) return mlp_layer_types[layer] == "sparse";
    return layer >= first_k_dense_replace && layer % moe_layer_freq == 0;
  }
  std::unique_ptr<nn::Layer> mlp(int layer) const {
    if (!is_sparse(layer)) return gated_mlp(*this);
    return std::make_unique<MoE>(
        hidden_size, hidden_act,
        MoEOptions{.routing = routing,
                   .moe_intermediate_size = moe_intermediate_size,
                   .shared_intermediate_size = shared_intermediate_size,
                   .correction_bias = correction_bias ? "gate.e_score_correction_bias" : ""});
  }
};

struct DeepseekV1Config : DeepseekConfig {
  void fields(ConfigReader& v) {
    DeepseekConfig::fields(v);
    v.only("scoring_func", "softmax");
    read_rope(v, head_size(), false);
  }
};

struct Dots1Config : DeepseekConfig {
  void fields(ConfigReader& v) {
    route_by_sigmoid();
    DeepseekConfig::fields(v);
    v.only("scoring_func", "noaux_tc");
    int max_window_layers = 62;
    v.maybe("max_window_layers", max_window_layers);
    if (layer_types.empty())
      for (int i = 0; i < num_hidden_layers; ++i)
        layer_types.push_back(i >= max_window_layers ? "sliding_attention" : "full_attention");
    qk_norm = QkNorm::rms;
    read_rope(v, head_size(), false);
  }
};

struct Glm4MoeConfig : DeepseekConfig {
  Glm4MoeConfig() {
    rope.partial_rotary_factor = 0.5;
    first_k_dense_replace = 1;
    rms_norm_eps = 1e-5f;
    routing.norm_topk_prob = true;
  }

  void fields(ConfigReader& v) {
    route_by_sigmoid();
    DeepseekConfig::fields(v);
    output_bias = false;
    bool use_qk_norm = false;
    v.maybe("use_qk_norm", use_qk_norm);
    if (use_qk_norm) qk_norm = QkNorm::rms;
    read_rope(v, head_size(), false);
  }
};

struct LatentConfig : DeepseekConfig {
  LatentAttentionConfig attention;

  LatentConfig() { head_dim = 64; }  // unused, but hidden_size need not divide by the heads

  void fields(ConfigReader& v) {
    DeepseekConfig::fields(v);
    attention.fields(v);
    sliding_window.reset();  // a key that the reference passes over
    for (const char* key : {"num_mtp_layers", "qk_head_dim"}) v.skip(key);
    read_rope(v, attention.qk_rope_head_dim, true);
  }

  float scale() const {
    return yarn_attention_factor(rope) / std::sqrt(static_cast<float>(attention.head_dim()));
  }
};

struct DeepseekV2Config : LatentConfig {
  void fields(ConfigReader& v) {
    routing.group_score = RoutingOptions::GroupScore::best;
    LatentConfig::fields(v);
    v.only("scoring_func", "softmax");
    v.only("norm_topk_prob", false);
    std::string topk_method = "greedy";
    v.maybe("topk_method", topk_method);
    if (topk_method == "greedy")
      routing.n_group = routing.topk_group = 1;
    else if (topk_method != "group_limited_greedy")
      throw Error("{}: 'topk_method' is '{}', expected greedy or group_limited_greedy", v.where(),
                  topk_method);
  }
};

struct DeepseekV3Config : LatentConfig {
  DeepseekV3Config() {
    routing.norm_topk_prob = true;
    routing.routed_scaling_factor = 2.5f;
    routing.n_group = 8;
    routing.topk_group = 4;
    first_k_dense_replace = 3;
    n_shared_experts = 1;
  }

  void fields(ConfigReader& v) {
    route_by_sigmoid();
    LatentConfig::fields(v);
    v.only("topk_method", "noaux_tc");
    v.only("scoring_func", "sigmoid");
  }
};

struct Glm4MoeLiteConfig : DeepseekV3Config {
  Glm4MoeLiteConfig() {
    first_k_dense_replace = 1;
    rms_norm_eps = 1e-5f;
    routing.routed_scaling_factor = 1.8f;
    routing.n_group = routing.topk_group = 1;
  }
};

struct Block final : PreNormLayer<> {
  Block(const DeepseekConfig& c, int index)
      : PreNormLayer(c, c.mlp(index),
                     AttentionOptions{.qkv_bias = c.attention_bias,
                                      .output_bias = c.output_bias,
                                      .qk_norm = c.qk_norm,
                                      .window = c.window(index),
                                      .rope = c.rope_table}) {}
};

struct LatentBlock final : PreNormLayer<LatentAttention> {
  LatentBlock(const LatentConfig& c, int index)
      : PreNormLayer(c, c.mlp(index), c.attention, c.rope_table, c.scale(), c.attention_bias) {}
};

template <class Config, class Layer>
struct Deepseek : CausalLM<Config, Layer> {
  using Base = CausalLM<Config, Layer>;
  explicit Deepseek(const Config& c) : Base(c, 1.0f, c.rms_norm_eps) {}

  nn::Weights sanitize(nn::Weights weights) const override {
    weights = Base::sanitize(std::move(weights));
    weights = drop_further_layers(std::move(weights), "model.layers.", this->c.num_hidden_layers);
    return stack_experts(std::move(weights));
  }
};

struct LatentDeepseek final : Deepseek<LatentConfig, LatentBlock> {
  using Deepseek::Deepseek;

  nn::Weights sanitize(nn::Weights weights) const override {
    return split_latent_projections(Deepseek::sanitize(std::move(weights)), c.num_attention_heads,
                                    c.attention);
  }
};

template <class Config>
std::unique_ptr<LanguageModel> make(const Config& c) {
  return std::make_unique<Deepseek<DeepseekConfig, Block>>(c);
}

template <class Config>
std::unique_ptr<LanguageModel> make_latent(const Config& c) {
  return std::make_unique<LatentDeepseek>(c);
}

}  // namespace

Creator deepseek() { return creator(make<DeepseekV1Config>); }
Creator deepseek_v2() { return creator(make_latent<DeepseekV2Config>); }
Creator deepseek_v3() { return creator(make_latent<DeepseekV3Config>); }
Creator dots1() { return creator(make<Dots1Config>); }
Creator glm4_moe() { return creator(make<Glm4MoeConfig>); }
Creator glm4_moe_lite() { return creator(make_latent<Glm4MoeLiteConfig>); }

}  // namespace mlxcpp::llm

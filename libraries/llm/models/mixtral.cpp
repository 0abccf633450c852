// Decoders with plain attention and a mixture of experts in place of the MLP: Mixtral (arXiv
// 2401.04088), OLMoE (2409.02060), MiniMax-M2, Ernie 4.5 MoE, Ling and Ring (bailing_moe). They
// differ in routing, norms of queries and keys, and names. Reference: transformers
// modeling_mixtral.py, modeling_olmoe.py, modeling_ernie4_5_moe.py; mlx_lm minimax.py,
// bailing_moe.py.
#include "llm/blocks/causal_lm.h"
#include "llm/blocks/decoder_layer.h"
#include "llm/blocks/moe.h"
#include "llm/models.h"

namespace mlxcpp::llm {
namespace {

struct MixtralConfig : DecoderConfig {
  MoEOptions moe;
  ExpertNames expert_names;
  int first_sparse = 0, last_sparse = 1 << 30, sparse_interval = 1;  // layers with experts
  bool qkv_bias = false, output_bias = false;
  QkNorm qk_norm = QkNorm::none;
  std::shared_ptr<const nn::RoPE> rope_table;

  void fields(ConfigReader& v, const char* experts_key, const char* top_k_key) {
    DecoderConfig::fields(v);
    qkv_bias = output_bias = attention_bias;
    v.need(experts_key, moe.routing.num_experts);
    v.need(top_k_key, moe.routing.num_experts_per_tok);
    moe.routing.check(v.where());
    if (moe.moe_intermediate_size == 0) moe.moe_intermediate_size = intermediate_size;
  }

  void read_rope(ConfigReader& v, bool traditional = false) {
    rope.read(v, head_size());
    rope_table = std::make_shared<const nn::RoPE>(rope, traditional);
  }

  // The names of Mixtral's own checkpoints, which others took over.
  void use_block_sparse_moe() {
    names.mlp = "block_sparse_moe";
    expert_names.gate_proj = "w1";
    expert_names.up_proj = "w3";
    expert_names.down_proj = "w2";
  }

  std::unique_ptr<nn::Layer> mlp(int layer) const {
    if (layer < first_sparse || layer > last_sparse || (layer + 1) % sparse_interval != 0)
      return gated_mlp(*this);
    return std::make_unique<MoE>(hidden_size, hidden_act, moe);
  }
};

struct Mixtral8Config : MixtralConfig {
  void fields(ConfigReader& v) {
    use_block_sparse_moe();
    moe.routing.norm_topk_prob = true;  // softmax over the chosen
    MixtralConfig::fields(v, "num_local_experts", "num_experts_per_tok");
    read_rope(v);
  }
};

struct OlmoeConfig : MixtralConfig {
  OlmoeConfig() { rms_norm_eps = 1e-5f; }

  void fields(ConfigReader& v) {
    MixtralConfig::fields(v, "num_experts", "num_experts_per_tok");
    v.maybe("norm_topk_prob", moe.routing.norm_topk_prob);
    v.only("clip_qkv", nullptr);
    qk_norm = QkNorm::rms_all_heads;
    read_rope(v);
  }
};

struct MiniMaxConfig : MixtralConfig {
  void fields(ConfigReader& v) {
    use_block_sparse_moe();
    moe.routing.scores = RoutingOptions::Scores::sigmoid;
    moe.routing.norm_topk_prob = true;
    moe.correction_bias = "e_score_correction_bias";
    MixtralConfig::fields(v, "num_local_experts", "num_experts_per_tok");
    v.only("scoring_func", "sigmoid");
    v.only("shared_intermediate_size", 0);
    v.only("use_routing_bias", true);
    v.only("qk_norm_type", "per_layer");
    bool use_qk_norm = false;
    v.maybe("use_qk_norm", use_qk_norm);
    if (use_qk_norm) qk_norm = QkNorm::rms_all_heads;
    int rotary_dim = head_size();
    read_size(v, "rotary_dim", rotary_dim);
    rope.partial_rotary_factor = static_cast<double>(rotary_dim) / head_size();
    read_rope(v);
  }
};

struct Ernie45MoeConfig : MixtralConfig {
  Ernie45MoeConfig() {
    tie_word_embeddings = true;
    rms_norm_eps = 1e-5f;
    rope.theta = 500000;
  }

  void fields(ConfigReader& v) {
    read_size(v, "moe_intermediate_size", moe.moe_intermediate_size);
    moe.routing.norm_topk_prob = true;
    moe.correction_bias = "moe_statics.e_score_correction_bias";
    MixtralConfig::fields(v, "moe_num_experts", "moe_k");
    v.only("use_bias", false);
    v.only("moe_use_aux_free", true);
    v.only("moe_gate", "topk");
    for (const char* key : {"moe_capacity", "moe_norm_min"}) v.skip(key);  // of training; tiny
    moe.shared_intermediate_size =
        read_shared_size(v, "moe_num_shared_experts", 2, moe.moe_intermediate_size);
    first_sparse = 1;
    last_sparse = -1;
    v.maybe("moe_layer_start_index", first_sparse);
    v.maybe("moe_layer_end_index", last_sparse);
    if (last_sparse == -1) last_sparse = num_hidden_layers - 1;
    read_size(v, "moe_layer_interval", sparse_interval);
    read_rope(v, true);
  }
};

struct BailingMoeConfig : MixtralConfig {
  BailingMoeConfig() {
    names.embed_tokens = "word_embeddings";
    names.self_attn = "attention";
    names.qkv_proj = "query_key_value";
    names.o_proj = "dense";
    names.q_norm = "query_layernorm";
    names.k_norm = "key_layernorm";
  }

  void fields(ConfigReader& v) {
    read_size(v, "moe_intermediate_size", moe.moe_intermediate_size);
    RoutingOptions& r = moe.routing;
    v.maybe("norm_topk_prob", r.norm_topk_prob);
    v.maybe("routed_scaling_factor", r.routed_scaling_factor);
    v.maybe("n_group", r.n_group);
    r.topk_group = r.n_group;
    v.maybe("topk_group", r.topk_group);
    if (r.n_group == 1) r.topk_group = 1;  // the published default is 4, of one
    std::string score_function = "softmax";
    v.maybe("score_function", score_function);
    if (score_function == "sigmoid")
      r.scores = RoutingOptions::Scores::sigmoid;
    else
      v.only("score_function", "softmax");
    bool expert_bias = false;
    v.maybe("moe_router_enable_expert_bias", expert_bias);
    moe.gate = "gate.gate_proj";
    if (expert_bias) moe.correction_bias = "gate.expert_bias";
    MixtralConfig::fields(v, "num_experts", "num_experts_per_tok");

    for (const char* key : {"use_bias", "norm_head", "norm_softmax", "multi_gate"})
      v.only(key, false);
    v.only("moe_router_enable_routed_scaling", true);
    v.only("moe_router_enable_shared_expert", true);
    for (const char* key : {"max_window_layers", "rotary_dim"}) v.skip(key);
    output_bias = false;
    v.maybe("use_qkv_bias", qkv_bias);
    bool use_qk_norm = false;
    v.maybe("use_qk_norm", use_qk_norm);
    if (use_qk_norm) qk_norm = QkNorm::rms;
    read_layer(v, "first_k_dense_replace", first_sparse);
    int shared_size = moe.moe_intermediate_size;
    read_size(v, "moe_shared_expert_intermediate_size", shared_size);
    moe.shared_intermediate_size = read_shared_size(v, "num_shared_experts", 0, shared_size);
    read_rope(v);
  }
};

struct Block final : PreNormLayer<> {
  Block(const MixtralConfig& c, int index)
      : PreNormLayer(c, c.mlp(index),
                     AttentionOptions{.qkv_bias = c.qkv_bias,
                                      .output_bias = c.output_bias,
                                      .qk_norm = c.qk_norm,
                                      .window = c.window(index),
                                      .rope = c.rope_table}) {}
};

struct Mixtral final : CausalLM<MixtralConfig, Block> {
  explicit Mixtral(const MixtralConfig& c) : CausalLM(c, 1.0f, c.rms_norm_eps) {}

  nn::Weights sanitize(nn::Weights weights) const override {
    weights = stack_experts(CausalLM::sanitize(std::move(weights)), c.expert_names);
    nn::Weights out;
    for (auto& [name, w] : weights) {
      std::string to = name;
      if (const auto at = to.find(".mlp.gate.weight"); at != to.npos && c.moe.gate != "gate")
        to = to.substr(0, at) + ".mlp." + c.moe.gate + ".weight";
      if (to.find(".mtp_") != to.npos || to.starts_with("mtp")) continue;
      const bool row = to.ends_with("e_score_correction_bias") && w.ndim() == 2;  // [1, experts]
      out.emplace(to, row ? mx::flatten(w) : w);
    }
    return out;
  }
};

template <class Config>
std::unique_ptr<LanguageModel> make(const Config& c) {
  return std::make_unique<Mixtral>(c);
}

}  // namespace

Creator mixtral() { return creator(make<Mixtral8Config>); }
Creator olmoe() { return creator(make<OlmoeConfig>); }
Creator minimax() { return creator(make<MiniMaxConfig>); }
Creator ernie4_5_moe() { return creator(make<Ernie45MoeConfig>); }
Creator bailing_moe() { return creator(make<BailingMoeConfig>); }

}  // namespace mlxcpp::llm

// LFM2 (Liquid AI, arXiv 2511.23404): most layers are short gated convolutions, a few attend; the
// MLP may be a mixture of experts. Reference: transformers modeling_lfm2.py, modeling_lfm2_moe.py.
#include "llm/blocks/causal_lm.h"
#include "llm/blocks/decoder_layer.h"
#include "llm/blocks/moe.h"
#include "llm/blocks/short_conv.h"
#include "llm/models.h"
#include "lm_common/kv_cache/arrays_cache.h"

namespace mlxcpp::llm {
namespace {

struct Lfm2Config : DecoderConfig {
  int conv_L_cache = 3;
  bool conv_bias = false;
  MoEOptions moe;  // of lfm2_moe, from layer num_dense_layers on
  int num_dense_layers = 1 << 30;
  std::shared_ptr<const nn::RoPE> rope_table;

  Lfm2Config() {
    intermediate_size = 12288;
    rms_norm_eps = 1e-5f;
    tie_word_embeddings = true;
    rope.theta = 1e6;
    names.norm = "embedding_norm";
    names.input_layernorm = "operator_norm";
    names.post_attention_layernorm = "ffn_norm";
    names.o_proj = "out_proj";
    names.q_norm = "q_layernorm";
    names.k_norm = "k_layernorm";
    names.mlp = "feed_forward";
    layer_kinds = {"full_attention", "conv"};
    names.gate_proj = "w1";
    names.up_proj = "w3";
    names.down_proj = "w2";
  }

  void fields(ConfigReader& v) {
    read_layers(v);
    read_intermediate_size(v);
    for (const char* key : {"block_dim", "conv_dim", "conv_dim_out"}) v.only(key, hidden_size);
    for (const char* key : {"block_use_swiglu", "use_pos_enc"}) v.only(key, true);
    // Initial values, and what stands under other names, too.
    for (const char* key : {"block_mlp_init_scale", "block_norm_eps", "block_out_init_scale",
                            "block_use_xavier_init", "conv_use_xavier_init", "num_heads"})
      v.skip(key);
  }

 protected:
  void read_layers(ConfigReader& v) {
    DecoderConfig::fields(v);
    v.maybe("norm_eps", rms_norm_eps);
    v.maybe("tie_embedding", tie_word_embeddings);
    read_size(v, "conv_L_cache", conv_L_cache);
    v.maybe("conv_bias", conv_bias);
    v.skip("theta");  // as rope_theta
    std::vector<int> full_attn_idxs;
    v.maybe("full_attn_idxs", full_attn_idxs);
    if (layer_types.empty()) {
      const auto it = v.json().find("full_attn_idxs");
      const bool listed = it != v.json().end() && !it->is_null();
      layer_types.assign(num_hidden_layers, listed ? "conv" : "full_attention");
      for (const int i : full_attn_idxs) {
        if (i < 0 || i >= num_hidden_layers)
          throw Error("{}: 'full_attn_idxs' has {}, expected 0 to {}", v.where(), i,
                      num_hidden_layers - 1);
        layer_types[i] = "full_attention";
      }
    }
    rope.read(v, head_size());
    rope_table = std::make_shared<const nn::RoPE>(rope);
  }

  // The size that the config names may be that of an MLP without gate, of which two thirds are
  // taken, rounded up.
  void read_intermediate_size(ConfigReader& v) {
    bool adjust = true;
    double multiplier = 1.0;
    int multiple_of = 256;
    read_size(v, "block_ff_dim", intermediate_size);
    v.maybe("block_auto_adjust_ff_dim", adjust);
    v.maybe("block_ffn_dim_multiplier", multiplier);
    read_size(v, "block_multiple_of", multiple_of);
    if (!adjust) return;
    intermediate_size = static_cast<int>(2.0 * intermediate_size / 3);
    const double width = multiplier * intermediate_size;
    if (!(width >= 1 && width <= kLargestSize))
      throw Error("{}: 'block_ffn_dim_multiplier' is {}, which makes a width of {}", v.where(),
                  multiplier, width);
    intermediate_size = static_cast<int>(width);
    intermediate_size = (intermediate_size + multiple_of - 1) / multiple_of * multiple_of;
  }

 public:
  bool is_conv(int layer) const { return layer_types[layer] == "conv"; }
  std::unique_ptr<nn::Layer> mlp(int layer) const {
    if (layer < num_dense_layers) return gated_mlp(*this);
    return std::make_unique<MoE>(hidden_size, hidden_act, moe);
  }
};

struct Lfm2MoeConfig : Lfm2Config {
  Lfm2MoeConfig() { num_dense_layers = 2; }

  void fields(ConfigReader& v) {
    read_layers(v);
    RoutingOptions& r = moe.routing;
    r.scores = RoutingOptions::Scores::sigmoid;
    r.norm_topk_prob = true;
    r.norm_epsilon = 1e-6f;
    v.need("num_experts", r.num_experts);
    v.need("num_experts_per_tok", r.num_experts_per_tok);
    v.maybe("norm_topk_prob", r.norm_topk_prob);
    v.maybe("routed_scaling_factor", r.routed_scaling_factor);
    r.check(v.where());
    bool use_expert_bias = true;
    v.maybe("use_expert_bias", use_expert_bias);
    if (use_expert_bias) moe.correction_bias = "expert_bias";
    read_size(v, "moe_intermediate_size", moe.moe_intermediate_size);
    read_layer(v, "num_dense_layers", num_dense_layers);
  }
};

// Gates before and after a convolution over the last few tokens.
struct ShortConv final : nn::Module {
  explicit ShortConv(const Lfm2Config& c)
      : in_proj(this, "in_proj", c.hidden_size, 3 * c.hidden_size, c.conv_bias),
        conv(this, "conv", c.hidden_size, c.conv_L_cache, c.conv_bias),
        out_proj(this, "out_proj", c.hidden_size, c.hidden_size, c.conv_bias) {}

  nn::Child<nn::Linear> in_proj;
  nn::Child<CausalConv> conv;
  nn::Child<nn::Linear> out_proj;

  // [B, L, hidden] -> [B, L, hidden]
  mx::array operator()(const mx::array& x, KVCache* cache) const {
    auto* arrays = dynamic_cast<ArraysCache*>(cache);
    std::optional<mx::array> fresh;
    const auto gates = mx::split(in_proj(x), 3, -1);  // before, after, and what they act on
    const auto y = conv(without_padding(gates[0] * gates[2], cache), arrays ? (*arrays)[0] : fresh);
    if (arrays) arrays->advance(x.shape(1));
    return out_proj(gates[1] * y);
  }
};

struct Block final : nn::Module {
  Block(const Lfm2Config& c, int index)
      : operator_norm(this, c.names.input_layernorm, c.hidden_size, c.rms_norm_eps),
        ffn_norm(this, c.names.post_attention_layernorm, c.hidden_size, c.rms_norm_eps),
        feed_forward(this, c.names.mlp, c.mlp(index)) {
    if (c.is_conv(index))
      conv.emplace(c);
    else
      self_attn.emplace(c, AttentionOptions{.qk_norm = QkNorm::rms, .rope = c.rope_table});
  }

  nn::Child<nn::RMSNorm> operator_norm;
  nn::Child<ShortConv> conv{this, "conv", nn::absent};
  nn::Child<Attention> self_attn{this, "self_attn", nn::absent};
  nn::Child<nn::RMSNorm> ffn_norm;
  nn::Child<nn::Layer> feed_forward;

  mx::array operator()(const mx::array& x, KVCache* cache) const {
    const auto normed = operator_norm(x);
    const auto h = x + (conv ? conv(normed, cache) : self_attn(normed, cache));
    return h + feed_forward(ffn_norm(h));
  }
};

struct Lfm2 final : CausalLM<Lfm2Config, Block> {
  explicit Lfm2(const Lfm2Config& c) : CausalLM(c, 1.0f, c.rms_norm_eps) {}

  Caches make_caches(const CacheOptions& options) const override {
    Caches caches;
    for (int i = 0; i < c.num_hidden_layers; ++i)
      caches.push_back(c.is_conv(i) ? std::make_unique<ArraysCache>(1) : make_cache(options));
    return caches;
  }

  nn::Weights sanitize(nn::Weights weights) const override {
    weights = conv_layout(CausalLM::sanitize(std::move(weights)), ".conv.conv.weight");
    return stack_experts(std::move(weights),
                         {.gate_proj = "w1", .up_proj = "w3", .down_proj = "w2"});
  }
};

template <class Config>
std::unique_ptr<LanguageModel> make(const Config& c) {
  return std::make_unique<Lfm2>(c);
}

}  // namespace

Creator lfm2() { return creator(make<Lfm2Config>); }
Creator lfm2_moe() { return creator(make<Lfm2MoeConfig>); }

}  // namespace mlxcpp::llm

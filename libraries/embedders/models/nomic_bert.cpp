// Nomic BERT (arXiv 2402.01613): BERT with rotary positions, a gated MLP and few biases.
// Reference: transformers modeling_nomic_bert.py; config and names as published with the weights.
#include "embedders/blocks/attention.h"
#include "embedders/blocks/careful.h"
#include "embedders/blocks/sum_norm.h"
#include "embedders/blocks/weights.h"
#include "embedders/models.h"
#include "kernels/activations.h"
#include "llm/blocks/causal_lm.h"
#include "llm/blocks/config.h"
#include "nn/embedding.h"
#include "nn/linear.h"
#include "nn/norm.h"

namespace mlxcpp::embedders {
namespace {

struct NomicBertConfig {
  int vocab_size = 30528;
  int n_embd = 768;
  int n_layer = 12;
  int n_head = 12;
  int n_inner = 3072;
  int n_positions = 8192;
  int max_trained_positions = 2048;
  int type_vocab_size = 2;
  float layer_norm_epsilon = 1e-12f;
  float rotary_emb_base = 1000.0f;
  std::optional<float> rotary_scaling_factor;
  bool rotary_emb_interleaved = false;
  bool qkv_proj_bias = false, mlp_fc1_bias = false, mlp_fc2_bias = false;

  void fields(ConfigReader& v) {
    llm::read_size(v, "vocab_size", vocab_size);
    // The latter: the common names of the same, which GGUF files have.
    for (const char* key : {"n_embd", "hidden_size"}) llm::read_size(v, key, n_embd);
    for (const char* key : {"n_layer", "num_hidden_layers"}) llm::read_count(v, key, n_layer);
    for (const char* key : {"n_head", "num_attention_heads"}) llm::read_size(v, key, n_head);
    for (const char* key : {"n_inner", "intermediate_size"}) llm::read_size(v, key, n_inner);
    for (const char* key : {"n_positions", "max_position_embeddings"})
      llm::read_size(v, key, n_positions);
    v.maybe("rope_theta", rotary_emb_base);
    llm::read_size(v, "max_trained_positions", max_trained_positions);
    llm::read_size(v, "type_vocab_size", type_vocab_size);
    v.maybe("layer_norm_epsilon", layer_norm_epsilon);
    v.maybe("rotary_emb_base", rotary_emb_base);
    v.maybe("rotary_scaling_factor", rotary_scaling_factor);
    v.maybe("rotary_emb_interleaved", rotary_emb_interleaved);
    v.maybe("qkv_proj_bias", qkv_proj_bias);
    v.maybe("mlp_fc1_bias", mlp_fc1_bias);
    v.maybe("mlp_fc2_bias", mlp_fc2_bias);
    v.only("activation_function", "swiglu");
    v.only("causal", false);
    v.only("prenorm", false);
    v.only("parallel_block", false);
    v.only("parallel_block_tied_norm", false);
    v.only("rotary_emb_fraction", 1.0);
    v.only("rotary_emb_scale_base", nullptr);
    v.only("scale_attn_by_inverse_layer_idx", false);
    v.only("scale_attn_weights", true);
    v.only("use_rms_norm", false);
    // How others compute and train it.
    for (const char* key : {"dense_seq_output", "expert_choice_router", "ffn_div", "fused_bias_fc",
                            "fused_dropout_add_ln", "last_layer_subset", "pad_vocab_size_multiple",
                            "pad_vocab_to_multiple_of", "reorder_and_upcast_attn", "use_xentropy"})
      v.skip(key);
    for (const char* key : {"attention_bias", "head_dim", "hidden_act", "mlp_bias",
                            "num_key_value_heads", "tie_word_embeddings"})
      v.skip(key);
    if (n_embd % n_head != 0 || n_embd / n_head % 2 != 0)
      throw Error("{}: 'n_embd' {} does not divide into {} heads of an even size", v.where(),
                  n_embd, n_head);
    if (!(rotary_emb_base > 0))
      throw Error("{}: 'rotary_emb_base' must be positive, found {}", v.where(), rotary_emb_base);
  }
};

struct Attention : nn::Module {
  Attention(const NomicBertConfig& c, std::shared_ptr<const nn::RoPE> rope_)
      : heads(c.n_head),
        rope(std::move(rope_)),
        Wqkv(this, "Wqkv", c.n_embd, 3 * c.n_embd, c.qkv_proj_bias),
        out_proj(this, "out_proj", c.n_embd, c.n_embd, c.qkv_proj_bias) {}

  mx::array operator()(const mx::array& x, const PackedTokens& t) const {
    return out_proj(attend_fused(Wqkv(x), heads, t, rope.get()));
  }

  const int heads;
  const std::shared_ptr<const nn::RoPE> rope;
  nn::Child<nn::Linear> Wqkv, out_proj;
};

struct MLP : nn::Module {
  explicit MLP(const NomicBertConfig& c)
      : fc11(this, "fc11", c.n_embd, c.n_inner, c.mlp_fc1_bias),
        fc12(this, "fc12", c.n_embd, c.n_inner, c.mlp_fc1_bias),
        fc2(this, "fc2", c.n_inner, c.n_embd, c.mlp_fc2_bias) {}

  mx::array operator()(const mx::array& x) const {
    return carefully(fc2, kernels::swiglu(carefully(fc12, x), carefully(fc11, x)));
  }

  nn::Child<nn::Linear> fc11, fc12, fc2;
};

struct Layer : nn::Module {
  Layer(const NomicBertConfig& c, const std::shared_ptr<const nn::RoPE>& rope)
      : attn(this, "attn", c, rope),
        norm1(this, "norm1", c.n_embd, c.layer_norm_epsilon),
        mlp(this, "mlp", c),
        norm2(this, "norm2", c.n_embd, c.layer_norm_epsilon) {}

  mx::array operator()(const mx::array& x, const PackedTokens& t) const {
    const auto h = norm_of_sum(norm1, x, attn(x, t));
    return norm_of_sum(norm2, h, mlp(h));
  }

  nn::Child<Attention> attn;
  nn::Child<nn::LayerNorm> norm1;
  nn::Child<MLP> mlp;
  nn::Child<nn::LayerNorm> norm2;
};

struct NomicBert final : nn::Module, TextEncoder {
  explicit NomicBert(const NomicBertConfig& config)
      : c(config),
        word_embeddings(this, "embeddings.word_embeddings", c.vocab_size, c.n_embd),
        token_type_embeddings(this, "embeddings.token_type_embeddings", c.type_vocab_size,
                              c.n_embd),
        emb_ln(this, "emb_ln", c.n_embd, c.layer_norm_epsilon) {
    const auto rope = std::make_shared<const nn::RoPE>(c.n_embd / c.n_head,
                                                       c.rotary_emb_interleaved, c.rotary_emb_base);
    for (int i = 0; i < c.n_layer; ++i) layers.emplace_back(c, rope);
  }

  nn::Module& module() override { return *this; }
  int hidden_size() const override { return c.n_embd; }
  int vocab_size() const override { return c.vocab_size; }
  // Beyond what it was trained on the base would grow with the length, by the scaling factor.
  int max_length() const override {
    return c.rotary_scaling_factor ? std::min(c.n_positions, c.max_trained_positions)
                                   : c.n_positions;
  }

  std::vector<const nn::Module*> kept_in_floats() const override {
    std::vector<const nn::Module*> out;
    for (size_t i = 0; i < layers.size(); ++i) out.push_back(&*layers[i].attn->Wqkv);
    return out;
  }

  mx::array hidden(const PackedTokens& t) const override {
    const auto types = t.pairs && c.type_vocab_size > 1 ? t.type_ids : mx::zeros({1}, mx::int32);
    auto h = emb_ln(llm::to_compute_dtype(word_embeddings(t.ids)) + token_type_embeddings(types));
    for (size_t i = 0; i < layers.size(); ++i) h = layers.call(i, h, t);
    return h;
  }

  nn::Weights sanitize(nn::Weights weights) const override {
    return without(without_prefix(std::move(weights), "bert."), {"cls.", "pooler.", "classifier."});
  }

  const NomicBertConfig c;
  nn::Child<nn::Embedding> word_embeddings, token_type_embeddings;
  nn::Child<nn::LayerNorm> emb_ln;
  nn::Children<Layer> layers{this, "encoder.layers"};
};

std::unique_ptr<TextEncoder> make(const NomicBertConfig& c, Head head) {
  if (head != Head::none) throw Error("nomic_bert models make embeddings; they do not rerank");
  return std::make_unique<NomicBert>(c);
}

}  // namespace

EncoderCreator nomic_bert() { return creator(make); }

}  // namespace mlxcpp::embedders

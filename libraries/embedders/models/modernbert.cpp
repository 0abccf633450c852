// ModernBERT (arXiv 2412.13663): norms before attention and MLP, rotary positions, a gated MLP;
// every few layers see the whole text, the others what is near.
// Reference: transformers modeling_modernbert.py.
#include "embedders/blocks/attention.h"
#include "embedders/blocks/careful.h"
#include "embedders/blocks/score_head.h"
#include "embedders/blocks/weights.h"
#include "embedders/models.h"
#include "embedders/pooling.h"
#include "llm/blocks/causal_lm.h"
#include "llm/blocks/config.h"
#include "nn/activations.h"
#include "nn/embedding.h"
#include "nn/linear.h"
#include "nn/norm.h"

namespace mlxcpp::embedders {
namespace {

struct Base {  // of the rotary positions of one type of layers
  float& theta;
  void fields(ConfigReader& v) {
    v.only("rope_type", "default");
    v.maybe("rope_theta", theta);
  }
};

struct ModernBertConfig {
  int vocab_size = 50368;
  int hidden_size = 768;
  int intermediate_size = 1152;
  int num_hidden_layers = 22;
  int num_attention_heads = 12;
  int max_position_embeddings = 8192;
  int global_attn_every_n_layers = 3;
  int local_attention = 128;  // tokens, half of them on each side
  float global_rope_theta = 160000.0f, local_rope_theta = 10000.0f;
  float norm_eps = 1e-5f;
  bool norm_bias = false, attention_bias = false, mlp_bias = false;
  std::string hidden_activation = "gelu";
  bool classifier_bias = false;
  std::string classifier_pooling = "cls", classifier_activation = "gelu";
  int labels = 2;
  // Newer files: "full_attention" or "sliding_attention", one a layer; else by the number above.
  std::vector<std::string> layer_types;

  void fields(ConfigReader& v) {
    llm::read_size(v, "vocab_size", vocab_size);
    llm::read_size(v, "hidden_size", hidden_size);
    llm::read_size(v, "intermediate_size", intermediate_size);
    llm::read_count(v, "num_hidden_layers", num_hidden_layers);
    llm::read_heads(v, "num_attention_heads", num_attention_heads, "hidden_size", hidden_size,
                    true);
    llm::read_size(v, "max_position_embeddings", max_position_embeddings);
    llm::read_size(v, "global_attn_every_n_layers", global_attn_every_n_layers);
    llm::read_size(v, "local_attention", local_attention);
    v.maybe("global_rope_theta", global_rope_theta);
    v.maybe("local_rope_theta", local_rope_theta);
    llm::read_layer_kinds(v, "layer_types", num_hidden_layers,
                          {"full_attention", "sliding_attention"}, layer_types);
    struct Ropes {
      ModernBertConfig& c;
      void fields(ConfigReader& r) {
        Base full{c.global_rope_theta}, sliding{c.local_rope_theta};
        r.maybe("full_attention", full);
        r.maybe("sliding_attention", sliding);
      }
    } ropes{*this};
    v.maybe("rope_parameters", ropes);
    v.maybe("norm_eps", norm_eps);
    v.maybe("norm_bias", norm_bias);
    v.maybe("attention_bias", attention_bias);
    v.maybe("mlp_bias", mlp_bias);
    llm::read_activation(v, "hidden_activation", hidden_activation);
    v.maybe("classifier_bias", classifier_bias);
    v.maybe("classifier_pooling", classifier_pooling);
    v.maybe("classifier_activation", classifier_activation);
    // norm_eps is what the layers read; the others speak of the head of pre-training and of
    // kernels.
    for (const char* key :
         {"decoder_bias", "deterministic_flash_attn", "layer_norm_eps", "position_embedding_type",
          "reference_compile", "repad_logits_with_grad", "sentence_transformers",
          "sparse_pred_ignore_index", "sparse_prediction", "tie_word_embeddings"})
      v.skip(key);
    labels = num_labels(v);
    if (classifier_pooling != "cls" && classifier_pooling != "mean")
      throw Error("{}: 'classifier_pooling' must be cls or mean, found '{}'", v.where(),
                  classifier_pooling);
  }

  bool is_global(int layer) const {
    return layer_types.empty() ? layer % global_attn_every_n_layers == 0
                               : layer_types[layer] == "full_attention";
  }
};

using Rope = std::shared_ptr<const nn::RoPE>;

struct Attention : nn::Module {
  Attention(const ModernBertConfig& c, Rope rope_, std::optional<int> window_)
      : heads(c.num_attention_heads),
        rope(std::move(rope_)),
        window(window_),
        Wqkv(this, "Wqkv", c.hidden_size, 3 * c.hidden_size, c.attention_bias),
        Wo(this, "Wo", c.hidden_size, c.hidden_size, c.attention_bias) {}

  mx::array operator()(const mx::array& x, const PackedTokens& t) const {
    return Wo(attend_fused(Wqkv(x), heads, t, rope.get(), window));
  }

  const int heads;
  const Rope rope;
  const std::optional<int> window;
  nn::Child<nn::Linear> Wqkv, Wo;
};

struct MLP : nn::Module {
  explicit MLP(const ModernBertConfig& c)
      : act(c.hidden_activation),
        Wi(this, "Wi", c.hidden_size, 2 * c.intermediate_size, c.mlp_bias),
        Wo(this, "Wo", c.intermediate_size, c.hidden_size, c.mlp_bias) {}

  mx::array operator()(const mx::array& x) const {
    const auto halves = mx::split(carefully(Wi, x), 2, -1);
    return carefully(Wo, act(halves[0], halves[1]));
  }

  const nn::GatedActivation act;
  nn::Child<nn::Linear> Wi, Wo;
};

struct Layer : nn::Module {
  Layer(const ModernBertConfig& c, int index, const Rope& rope)
      : attn_norm(this, "attn_norm", nn::absent),
        attn(this, "attn", c, rope,
             c.is_global(index) ? std::nullopt : std::optional(c.local_attention / 2 + 1)),
        mlp_norm(this, "mlp_norm", c.hidden_size, c.norm_eps, true, c.norm_bias),
        mlp(this, "mlp", c) {
    // The first layer gets what the embedding's norm has made.
    if (index > 0) attn_norm.emplace(c.hidden_size, c.norm_eps, true, c.norm_bias);
  }

  mx::array operator()(const mx::array& x, const PackedTokens& t) const {
    const auto h = x + attn(attn_norm ? attn_norm(x) : x, t);
    return h + mlp(mlp_norm(h));
  }

  nn::Child<nn::LayerNorm> attn_norm;
  nn::Child<Attention> attn;
  nn::Child<nn::LayerNorm> mlp_norm;
  nn::Child<MLP> mlp;
};

struct ModernBert final : nn::Module, TextEncoder {
  ModernBert(const ModernBertConfig& config, Head head)
      : c(config),
        tok_embeddings(this, "embeddings.tok_embeddings", c.vocab_size, c.hidden_size),
        embedding_norm(this, "embeddings.norm", c.hidden_size, c.norm_eps, true, c.norm_bias),
        layers(this, "layers"),
        final_norm(this, "final_norm", c.hidden_size, c.norm_eps, true, c.norm_bias),
        head_dense(this, "head.dense", nn::absent),
        head_norm(this, "head.norm", nn::absent),
        classifier(this, "classifier", nn::absent) {
    const int dim = c.hidden_size / c.num_attention_heads;
    const auto global = std::make_shared<const nn::RoPE>(dim, false, c.global_rope_theta);
    const auto local = std::make_shared<const nn::RoPE>(dim, false, c.local_rope_theta);
    for (int i = 0; i < c.num_hidden_layers; ++i)
      layers.emplace_back(c, i, c.is_global(i) ? global : local);
    if (head == Head::scores) {
      check_one_label(c.labels);
      head_dense.emplace(c.hidden_size, c.hidden_size, c.classifier_bias);
      head_norm.emplace(c.hidden_size, c.norm_eps, true, c.norm_bias);
      classifier.emplace(c.hidden_size, c.labels, true);
    }
  }

  nn::Module& module() override { return *this; }
  int hidden_size() const override { return c.hidden_size; }
  int vocab_size() const override { return c.vocab_size; }
  int max_length() const override { return c.max_position_embeddings; }

  std::vector<const nn::Module*> kept_in_floats() const override {
    std::vector<const nn::Module*> out;
    for (size_t i = 0; i < layers.size(); ++i) out.push_back(&*layers[i].attn->Wqkv);
    return out;
  }

  mx::array hidden(const PackedTokens& t) const override {
    auto h = embedding_norm(llm::to_compute_dtype(tok_embeddings(t.ids)));
    for (size_t i = 0; i < layers.size(); ++i) h = layers.call(i, h, t);
    return final_norm(h);
  }

  mx::array scores(const mx::array& hidden, const PackedTokens& t) const override {
    if (!classifier) return TextEncoder::scores(hidden, t);
    const auto x = pool(hidden, t, c.classifier_pooling == "cls" ? Pooling::cls : Pooling::mean);
    const auto act = nn::activation_from_name(c.classifier_activation);
    return mx::squeeze(classifier(head_norm(act(head_dense(x)))), -1);
  }

  nn::Weights sanitize(nn::Weights weights) const override {
    weights = without(without_prefix(std::move(weights), "model."), {"decoder."});
    return classifier ? weights : without(std::move(weights), {"head.", "classifier."});
  }

  const ModernBertConfig c;
  nn::Child<nn::Embedding> tok_embeddings;
  nn::Child<nn::LayerNorm> embedding_norm;
  nn::Children<Layer> layers;
  nn::Child<nn::LayerNorm> final_norm;
  nn::Child<nn::Linear> head_dense;
  nn::Child<nn::LayerNorm> head_norm;
  nn::Child<nn::Linear> classifier;
};

std::unique_ptr<TextEncoder> make(const ModernBertConfig& c, Head head) {
  if (head == Head::tokens) throw Error("modernbert is no causal language model");
  return std::make_unique<ModernBert>(c, head);
}

}  // namespace

EncoderCreator modernbert() { return creator(make); }

}  // namespace mlxcpp::embedders

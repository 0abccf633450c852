// BERT (arXiv 1810.04805) and the families that differ from it by names and positions: RoBERTa
// (arXiv 1907.11692) and XLM-RoBERTa (arXiv 1911.02116), whose positions begin after the padding's
// id; DistilBERT (arXiv 1910.01108), without token types.
// Reference: transformers modeling_bert.py, modeling_roberta.py, modeling_xlm_roberta.py,
// modeling_distilbert.py.
#include "embedders/blocks/attention.h"
#include "embedders/blocks/careful.h"
#include "embedders/blocks/score_head.h"
#include "embedders/blocks/sum_norm.h"
#include "embedders/blocks/weights.h"
#include "embedders/models.h"
#include "llm/blocks/causal_lm.h"
#include "llm/blocks/config.h"
#include "nn/activations.h"
#include "nn/embedding.h"
#include "nn/linear.h"
#include "nn/norm.h"

namespace mlxcpp::embedders {
namespace {

// What the families' checkpoints call the parts.
struct BertNames {
  std::string prefix = "bert.";  // of the encoder in a checkpoint with a head
  std::string layers = "encoder.layer";
  std::string query = "attention.self.query", key = "attention.self.key",
              value = "attention.self.value", output = "attention.output.dense",
              attention_norm = "attention.output.LayerNorm";
  std::string up = "intermediate.dense", down = "output.dense", output_norm = "output.LayerNorm";
  // The head that scores: two linear layers, and what stands between.
  std::string head = "pooler.dense", classifier = "classifier";
  nn::ActivationFn head_act = nn::tanh;
};

struct BertConfig {
  int vocab_size = 30522;
  int hidden_size = 768;
  int num_hidden_layers = 12;
  int num_attention_heads = 12;
  int intermediate_size = 3072;
  int max_position_embeddings = 512;
  int type_vocab_size = 2;
  float layer_norm_eps = 1e-12f;
  std::string hidden_act = "gelu";
  int first_position = 0;  // of a text
  int labels = 2;
  BertNames names;

  void fields(ConfigReader& v) {
    llm::read_size(v, "hidden_size", hidden_size);
    llm::read_count(v, "num_hidden_layers", num_hidden_layers);
    llm::read_heads(v, "num_attention_heads", num_attention_heads, "hidden_size", hidden_size);
    llm::read_size(v, "intermediate_size", intermediate_size);
    v.maybe("type_vocab_size", type_vocab_size);
    if (type_vocab_size < 0)
      throw Error("{}: 'type_vocab_size' must be 0 or more, found {}", v.where(), type_vocab_size);
    v.maybe("layer_norm_eps", layer_norm_eps);
    v.maybe("hidden_act", hidden_act);
    v.only("position_embedding_type", "absolute");
    common(v);
    // Of the first BERTs' pooler, and of files made by older programs.
    for (const char* key :
         {"directionality", "output_past", "pooler_fc_size", "pooler_num_attention_heads",
          "pooler_num_fc_layers", "pooler_size_per_head", "pooler_type", "tie_word_embeddings"})
      v.skip(key);
    // GGUF files state for every family what only others vary.
    for (const char* key :
         {"attention_bias", "head_dim", "mlp_bias", "num_key_value_heads", "rope_theta"})
      v.skip(key);
  }

 protected:
  void common(ConfigReader& v) {
    llm::read_size(v, "vocab_size", vocab_size);
    llm::read_size(v, "max_position_embeddings", max_position_embeddings);
    // How a cross-encoder's logit becomes a score is sentence_config's to read.
    v.skip("sentence_transformers");
    v.skip("sbert_ce_default_activation_function");
    labels = num_labels(v);
  }
};

struct RobertaConfig : BertConfig {
  RobertaConfig() {
    layer_norm_eps = 1e-5f;
    names.prefix = "roberta.";
    names.head = "classifier.dense";
    names.classifier = "classifier.out_proj";
  }

  void fields(ConfigReader& v) {
    BertConfig::fields(v);
    int pad_token_id = 1;
    v.maybe("pad_token_id", pad_token_id);
    first_position = pad_token_id + 1;
    if (pad_token_id < 0 || first_position >= max_position_embeddings)
      throw Error("{}: 'pad_token_id' is {}, expected less than max_position_embeddings ({})",
                  v.where(), pad_token_id, max_position_embeddings);
  }
};

struct DistilBertConfig : BertConfig {
  DistilBertConfig() {
    type_vocab_size = 0;
    names = {.prefix = "distilbert.",
             .layers = "transformer.layer",
             .query = "attention.q_lin",
             .key = "attention.k_lin",
             .value = "attention.v_lin",
             .output = "attention.out_lin",
             .attention_norm = "sa_layer_norm",
             .up = "ffn.lin1",
             .down = "ffn.lin2",
             .output_norm = "output_layer_norm",
             .head = "pre_classifier",
             .classifier = "classifier",
             .head_act = nn::relu};
  }

  void fields(ConfigReader& v) {
    llm::read_size(v, "dim", hidden_size);
    llm::read_count(v, "n_layers", num_hidden_layers);
    llm::read_heads(v, "n_heads", num_attention_heads, "dim", hidden_size);
    llm::read_size(v, "hidden_dim", intermediate_size);
    v.maybe("activation", hidden_act);
    common(v);
    // How positions were made at first, and dropout.
    for (const char* key : {"dropout", "qa_dropout", "seq_classif_dropout", "sinusoidal_pos_embds",
                            "tie_weights_", "tie_word_embeddings"})
      v.skip(key);
  }
};

struct Embeddings : nn::Module {
  explicit Embeddings(const BertConfig& c)
      : first_position(c.first_position),
        word_embeddings(this, "word_embeddings", c.vocab_size, c.hidden_size),
        position_embeddings(this, "position_embeddings", c.max_position_embeddings, c.hidden_size),
        token_type_embeddings(this, "token_type_embeddings", nn::absent),
        norm(this, "LayerNorm", c.hidden_size, c.layer_norm_eps) {
    if (c.type_vocab_size > 0) token_type_embeddings.emplace(c.type_vocab_size, c.hidden_size);
  }

  mx::array operator()(const PackedTokens& t) const {
    auto h = llm::to_compute_dtype(word_embeddings(t.ids)) +
             position_embeddings(t.positions + mx::array(first_position));
    if (token_type_embeddings)
      h = h + token_type_embeddings(t.pairs && token_type_embeddings->count() > 1
                                        ? t.type_ids
                                        : mx::zeros({1}, mx::int32));
    return norm(h);
  }

  const int first_position;
  nn::Child<nn::Embedding> word_embeddings, position_embeddings, token_type_embeddings;
  nn::Child<nn::LayerNorm> norm;
};

struct Layer : nn::Module {
  explicit Layer(const BertConfig& c)
      : heads(c.num_attention_heads),
        act(nn::activation_from_name(c.hidden_act)),
        query(this, c.names.query, c.hidden_size, c.hidden_size, true),
        key(this, c.names.key, c.hidden_size, c.hidden_size, true),
        value(this, c.names.value, c.hidden_size, c.hidden_size, true),
        output(this, c.names.output, c.hidden_size, c.hidden_size, true),
        attention_norm(this, c.names.attention_norm, c.hidden_size, c.layer_norm_eps),
        up(this, c.names.up, c.hidden_size, c.intermediate_size, true),
        down(this, c.names.down, c.intermediate_size, c.hidden_size, true),
        output_norm(this, c.names.output_norm, c.hidden_size, c.layer_norm_eps) {}

  mx::array operator()(const mx::array& x, const PackedTokens& t) const {
    const auto split = [&](const mx::array& a) {  // [T, H*D] -> [T, H, D]
      return mx::unflatten(a, -1, {heads, -1});
    };
    const auto y = attend(split(query(x)), split(key(x)), split(value(x)), t);
    const auto h = norm_of_sum(attention_norm, x, output(y));
    return norm_of_sum(output_norm, h, carefully(down, act(carefully(up, h))));
  }

  const int heads;
  const nn::ActivationFn act;
  nn::Child<nn::Linear> query, key, value, output;
  nn::Child<nn::LayerNorm> attention_norm;
  nn::Child<nn::Linear> up, down;
  nn::Child<nn::LayerNorm> output_norm;
};

struct Bert final : nn::Module, TextEncoder {
  Bert(const BertConfig& config, Head head_)
      : c(config),
        embeddings(this, "embeddings", c),
        layers(this, c.names.layers),
        head(this, c.names.head, nn::absent),
        classifier(this, c.names.classifier, nn::absent) {
    for (int i = 0; i < c.num_hidden_layers; ++i) layers.emplace_back(c);
    if (head_ == Head::scores) {
      check_one_label(c.labels);
      head.emplace(c.hidden_size, c.hidden_size, true);
      classifier.emplace(c.hidden_size, c.labels, true);
    }
  }

  nn::Module& module() override { return *this; }
  int hidden_size() const override { return c.hidden_size; }
  int vocab_size() const override { return c.vocab_size; }
  int max_length() const override { return c.max_position_embeddings - c.first_position; }

  std::vector<const nn::Module*> kept_in_floats() const override {
    std::vector<const nn::Module*> out;
    for (size_t i = 0; i < layers.size(); ++i) out.push_back(&*layers[i].value);
    return out;
  }

  mx::array hidden(const PackedTokens& t) const override {
    auto h = embeddings(t);
    for (size_t i = 0; i < layers.size(); ++i) h = layers.call(i, h, t);
    return h;
  }

  mx::array scores(const mx::array& hidden, const PackedTokens& t) const override {
    if (!classifier) return TextEncoder::scores(hidden, t);
    const auto first = mx::take(hidden, t.first_tokens(), 0);  // [texts, hidden]
    return mx::squeeze(classifier(c.names.head_act(head(first))), -1);
  }

  nn::Weights sanitize(nn::Weights weights) const override {
    weights = without_prefix(std::move(weights), c.names.prefix);
    // Heads of pre-training, and a buffer that old programs stored.
    weights =
        without(std::move(weights), {"cls.", "lm_head.", "vocab_transform.", "vocab_layer_norm.",
                                     "vocab_projector.", "embeddings.position_ids"});
    if (!classifier)
      return without(std::move(weights), {"pooler.", "classifier.", "pre_classifier."});
    if (!c.names.head.starts_with("pooler.")) return without(std::move(weights), {"pooler."});
    return weights;
  }

  const BertConfig c;
  nn::Child<Embeddings> embeddings;
  nn::Children<Layer> layers;
  nn::Child<nn::Linear> head, classifier;
};

template <class Config>
std::unique_ptr<TextEncoder> make(const Config& c, Head head) {
  return std::make_unique<Bert>(c, head);
}

}  // namespace

EncoderCreator bert() { return creator(make<BertConfig>); }
EncoderCreator roberta() { return creator(make<RobertaConfig>); }
EncoderCreator distilbert() { return creator(make<DistilBertConfig>); }

}  // namespace mlxcpp::embedders

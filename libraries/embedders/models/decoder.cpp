// Decoders as embedders: Qwen3 (arXiv 2506.05176), causal; EmbeddingGemma (arXiv 2509.20354), Gemma
// 3 whose tokens see both ways. The language models of libraries/llm, every token a batch row of
// one token, and a cache that knows which rows make a text. Reference: transformers
// modeling_qwen3.py, modeling_gemma3.py.
#include "embedders/models.h"
#include "kernels/packed_attention.h"
#include "llm/registry.h"
#include "lm_common/token_embedding.h"

namespace mlxcpp::embedders {
namespace {

// Which tokens are of one text. Keeps nothing: every layer attends within one step.
class PackedCache final : public KVCache {
 public:
  PackedCache(const PackedTokens& tokens, bool causal) : tokens_(tokens), causal_(causal) {}

  int offset() const override { return 0; }
  kernels::Positions positions() const override { return tokens_.positions; }
  // q [T, H, 1, D], k and v likewise.
  mx::array attend(const mx::array& q, const mx::array& k, const mx::array& v,
                   const kernels::AttentionOptions& o) override {
    if (o.mask || o.sinks) throw no("attention with a mask of the layer's own, or sinks");
    const auto y = kernels::packed_attention(
        mx::squeeze(q, 2), mx::squeeze(k, 2), mx::squeeze(v, 2), tokens_.lengths,
        {.scale = o.scale, .causal = causal_, .window = o.window, .softcap = o.softcap});
    return mx::expand_dims(y, 2);
  }
  mx::array attend_shared(const mx::array&, const kernels::AttentionOptions&) override {
    throw no("sharing a layer's keys");
  }
  std::pair<mx::array, mx::array> update(const mx::array&, const mx::array&) override {
    throw no("attention of a layer's own");
  }
  std::unique_ptr<KVCache> copy() const override {
    return std::make_unique<PackedCache>(tokens_, causal_);
  }
  std::vector<mx::array> state() const override { return {}; }
  size_t nbytes() const override { return 0; }

 private:
  static Error no(const char* what) { return Error("{} does not go with packed texts", what); }

  const PackedTokens& tokens_;
  const bool causal_;
};

class Decoder final : public TextEncoder {
 public:
  Decoder(const Json& config, bool causal)
      : model_(llm::model_types().make(config)),
        causal_(causal),
        layers_(model_->make_caches().size()) {
    const nn::Embedding* embedding = token_embedding(*model_);
    if (!embedding) throw Error("{} has no embedding of its tokens", model_->type_name());
    hidden_size_ = embedding->dims();
    vocab_size_ = embedding->count();
    ConfigReader(config, "config.json").maybe("max_position_embeddings", max_length_);
    if (max_length_ <= 0) throw Error("config.json: 'max_position_embeddings' is missing");
  }

  nn::Module& module() override { return *model_; }
  int hidden_size() const override { return hidden_size_; }
  int vocab_size() const override { return vocab_size_; }
  int max_length() const override { return max_length_; }

  mx::array hidden(const PackedTokens& t) const override {
    Caches caches;
    for (size_t i = 0; i < layers_; ++i)
      caches.push_back(std::make_unique<PackedCache>(t, causal_));
    return mx::squeeze(model_->hidden(mx::expand_dims(t.ids, 1), caches), 1);  // [T, 1, hidden]
  }

  mx::array next_token_logits(const mx::array& hidden, const PackedTokens& t) const override {
    return model_->logits(mx::take(hidden, t.last_tokens(), 0));
  }

  nn::Weights sanitize(nn::Weights weights) const override {
    nn::Weights out;  // checkpoints of the decoder alone leave out its name
    for (auto& [name, w] : weights)
      out.emplace(
          name.starts_with("model.") || name.starts_with("lm_head.") ? name : "model." + name, w);
    return model_->sanitize(std::move(out));
  }

 private:
  std::unique_ptr<LanguageModel> model_;
  const bool causal_;
  const size_t layers_;
  int hidden_size_ = 0, vocab_size_ = 0, max_length_ = 0;
};

Json as_decoder(Json config, Head head) {
  if (head == Head::scores)
    throw Error("config.json: a {} with a classification head is not supported",
                config.value("model_type", ""));
  // Embeddings need no head of their own, and checkpoints may have none.
  if (head == Head::none) config["tie_word_embeddings"] = true;
  return config;
}

}  // namespace

EncoderCreator qwen3() {
  return [](const Json& config, Head head) -> std::unique_ptr<TextEncoder> {
    return std::make_unique<Decoder>(as_decoder(config, head), true);
  };
}

EncoderCreator gemma3_text() {
  return [](const Json& json, Head head) -> std::unique_ptr<TextEncoder> {
    Json config = as_decoder(json, head);
    bool use_bidirectional_attention = false;
    ConfigReader reader(json, "config.json");
    reader.maybe("use_bidirectional_attention", use_bidirectional_attention);
    config.erase("use_bidirectional_attention");
    if (use_bidirectional_attention) {
      int sliding_window = 4096;
      reader.maybe("sliding_window", sliding_window);
      config["sliding_window"] = sliding_window / 2 + 1;  // half of it on each side
    }
    return std::make_unique<Decoder>(config, !use_bidirectional_attention);
  };
}

}  // namespace mlxcpp::embedders

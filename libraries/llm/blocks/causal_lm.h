#pragma once

#include <memory>
#include <utility>

#include "llm/blocks/config.h"
#include "lm_common/language_model.h"
#include "nn/embedding.h"
#include "nn/linear.h"
#include "nn/norm.h"

namespace mlxcpp::llm {

// Activations are computed in f32 on CPU, whatever the checkpoint holds: bf16 arithmetic is no
// faster there and costs digits. On other devices they keep the checkpoint's dtype.
mx::array to_compute_dtype(const mx::array& x);

// cap * tanh(x / cap); x itself when cap is 0.
mx::array softcap(const mx::array& x, float cap);

// The language model's part of a multimodal checkpoint, without the prefixes "language_model." (old
// form) or "model.language_model." (new form); towers and projectors are left out.
nn::Weights language_model_weights(nn::Weights weights);

// Without the layers from number `layers` on, which predict further tokens (MTP):
// "model.layers.61.embed_tokens.weight" for the prefix "model.layers." and 61 layers.
nn::Weights drop_further_layers(nn::Weights weights, std::string_view prefix, int layers);

// Embedding, layers, final norm: the part that checkpoints call "model". Layer is made by
// Layer(config, index) and called as layer(h, cache).
template <class Config, class Layer, class Norm = nn::RMSNorm>
class Decoder : public nn::Module {
 public:
  // The final norm's arguments follow the config: its width, its epsilon, a bias, ...
  template <class... NormArgs>
  Decoder(const Config& c, float embedding_scale, NormArgs&&... norm_args)
      : embedding_scale_(embedding_scale),
        embedding_module_scales_(c.embedding_module_scales),
        embed_tokens(this, c.names.embed_tokens, c.vocab_size, c.hidden_size),
        layers(this, c.names.layers),
        norm(this, c.names.norm, c.hidden_size, std::forward<NormArgs>(norm_args)...) {
    for (int i = 0; i < c.num_hidden_layers; ++i) layers.emplace_back(c, i);
  }

  // int32 [B, L] -> [B, L, hidden]
  mx::array embed(const mx::array& ids) const {
    if (embedding_module_scales_)
      return nn::detail::observed(*embed_tokens, scaled((*embed_tokens)(ids)));
    return scaled(embed_tokens(ids));
  }

  mx::array operator()(mx::array h, Caches& caches) const {
    for (size_t i = 0; i < layers.size(); ++i)
      h = layers.call(i, h, caches.empty() ? nullptr : caches[i].get());
    return norm(h);
  }

 private:
  mx::array scaled(const mx::array& embedding) const {
    const auto h = to_compute_dtype(embedding);
    return embedding_scale_ == 1.0f ? h : h * mx::array(embedding_scale_, h.dtype());
  }

  const float embedding_scale_;
  const bool embedding_module_scales_;

 public:
  nn::Child<nn::Embedding> embed_tokens;
  nn::Children<Layer> layers;
  nn::Child<Norm> norm;
};

// A decoder with its head, the head being the embedding again where the config ties them.
template <class Config, class Layer, class Norm = nn::RMSNorm>
class CausalLM : public LanguageModel {
 public:
  template <class... NormArgs>
  explicit CausalLM(const Config& config, float embedding_scale, NormArgs&&... norm_args)
      : c(config),
        model(this, c.names.model, c, embedding_scale, std::forward<NormArgs>(norm_args)...),
        lm_head(this, c.names.lm_head, nn::absent) {
    if (!c.tie_word_embeddings) lm_head.emplace(c.hidden_size, c.vocab_size, c.lm_head_bias);
  }

  mx::array embed(const mx::array& ids) const override { return model->embed(ids); }
  mx::array hidden(const mx::array& ids, Caches& caches) const override {
    return model(model->embed(ids), caches);
  }
  mx::array hidden_from(const mx::array& embeddings, const mx::array&,
                        Caches& caches) const override {
    return model(embeddings, caches);
  }
  mx::array logits(const mx::array& hidden) const override {
    const auto y = lm_head ? lm_head(hidden) : model->embed_tokens->as_linear(hidden);
    return softcap(c.logits_multiplier == 1.0f ? y : y * mx::array(c.logits_multiplier, y.dtype()),
                   c.final_logit_softcapping);
  }

  // A rotating cache for each layer with a window, else what the options ask for.
  Caches make_caches(const CacheOptions& options) const override {
    Caches caches;
    for (int i = 0; i < c.num_hidden_layers; ++i)
      caches.push_back(make_cache(options, c.window(i)));
    return caches;
  }

  nn::Weights sanitize(nn::Weights weights) const override {
    // Old checkpoints carry the rotary table; tied ones may repeat the embedding.
    std::erase_if(weights,
                  [](const auto& entry) { return entry.first.ends_with("rotary_emb.inv_freq"); });
    if (c.tie_word_embeddings)
      for (const char* part : {".weight", ".scales", ".biases"})
        weights.erase(c.names.lm_head + part);
    return weights;
  }

  const Config c;  // layers may refer to it
  nn::Child<Decoder<Config, Layer, Norm>> model;
  nn::Child<nn::Linear> lm_head;
};

}  // namespace mlxcpp::llm

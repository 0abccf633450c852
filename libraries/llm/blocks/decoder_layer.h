// How attention and MLP make a layer: h = x + attention(x), h + mlp(h), with norms before, after,
// or on both sides, or with the two side by side. The MLP is a GatedMLP, a mixture of experts, or
// what else takes one array and gives one. Every layer takes and gives [B, L, hidden]. Where a step
// can be one operation (step.h) it is, with the same result.
#pragma once

#include <memory>
#include <type_traits>
#include <utility>

#include "llm/blocks/attention.h"
#include "llm/blocks/mlp.h"
#include "llm/blocks/step.h"

namespace mlxcpp::llm {

// A norm over the hidden size, as the config has it.
template <class Norm>
std::unique_ptr<Norm> make_norm(const DecoderConfig& c) {
  if constexpr (std::is_same_v<Norm, nn::LayerNorm>)
    return std::make_unique<Norm>(c.hidden_size, c.rms_norm_eps, true, c.norm_bias);
  else
    return std::make_unique<Norm>(c.hidden_size, c.rms_norm_eps, c.norm_plus_one);
}

// Norms before attention and MLP: Llama and most decoders after it.
template <class SelfAttention = Attention, class Norm = nn::RMSNorm>
class PreNormLayer : public nn::Module {
 public:
  // The attention is made of the config and the arguments that follow the MLP.
  template <class Config, class... AttentionArgs>
  PreNormLayer(const Config& c, std::unique_ptr<nn::Layer> feed_forward,
               AttentionArgs&&... attention)
      : residual_multiplier_(c.residual_multiplier),
        input_layernorm(this, c.names.input_layernorm, make_norm<Norm>(c)),
        self_attn(this, c.names.self_attn, c, std::forward<AttentionArgs>(attention)...),
        post_attention_layernorm(this, c.names.post_attention_layernorm, make_norm<Norm>(c)),
        mlp(this, c.names.mlp, std::move(feed_forward)) {}

  mx::array operator()(const mx::array& x, KVCache* cache) const {
    const StepFrame second{&*post_attention_layernorm, nullptr, residual_multiplier_};
    LayerStep::Result step;
    if constexpr (std::is_base_of_v<StepAttention, SelfAttention>)
      step = step_.attend(x, cache, *self_attn, {&*input_layernorm, nullptr, residual_multiplier_},
                          *mlp, second);
    if (step.complete) return *step.h;
    const auto h = step.h ? *step.h : x + scaled(self_attn(input_layernorm(x), cache));
    if (auto y = step_.feed_forward(h, h, *mlp, second)) return *y;
    return h + scaled(mlp(post_attention_layernorm(h)));
  }

 private:
  mx::array scaled(const mx::array& y) const {
    return residual_multiplier_ == 1.0f ? y : y * mx::array(residual_multiplier_, y.dtype());
  }

  const float residual_multiplier_;
  const LayerStep step_;

 public:
  nn::Child<Norm> input_layernorm;
  nn::Child<SelfAttention> self_attn;
  nn::Child<Norm> post_attention_layernorm;
  nn::Child<nn::Layer> mlp;
};

// Norms before and after attention and MLP (Gemma 2, GLM-4), or after alone (EXAONE 4).
class SandwichLayer : public nn::Module {
 public:
  struct Names {
    const char *before_attention, *after_attention, *before_mlp, *after_mlp;  // before: "" is none
  };
  static constexpr Names kGemma = {"input_layernorm", "post_attention_layernorm",
                                   "pre_feedforward_layernorm", "post_feedforward_layernorm"};
  static constexpr Names kAfterAlone = {"", "post_attention_layernorm", "",
                                        "post_feedforward_layernorm"};

  SandwichLayer(const DecoderConfig& c, const Names& names, std::unique_ptr<nn::Layer> feed_forward,
                const AttentionOptions& attention)
      : before_attention(this, names.before_attention, norm_unless_none(names.before_attention, c)),
        self_attn(this, c.names.self_attn, c, attention),
        after_attention(this, names.after_attention, make_norm<nn::RMSNorm>(c)),
        before_mlp(this, names.before_mlp, norm_unless_none(names.before_mlp, c)),
        mlp(this, c.names.mlp, std::move(feed_forward)),
        after_mlp(this, names.after_mlp, make_norm<nn::RMSNorm>(c)) {}

  mx::array operator()(const mx::array& x, KVCache* cache) const {
    const StepFrame first{step_norm(before_attention), &*after_attention};
    const StepFrame second{step_norm(before_mlp), &*after_mlp};
    const auto step = step_.attend(x, cache, *self_attn, first, *mlp, second);
    if (step.complete) return *step.h;
    const auto normed = [](const nn::Child<nn::RMSNorm>& norm, const mx::array& a) {
      return norm ? norm(a) : a;
    };
    const auto h =
        step.h ? *step.h : x + after_attention(self_attn(normed(before_attention, x), cache));
    if (auto y = step_.feed_forward(h, h, *mlp, second)) return *y;
    return h + after_mlp(mlp(normed(before_mlp, h)));
  }

 private:
  static const nn::Layer* step_norm(const nn::Child<nn::RMSNorm>& norm) {
    return norm ? &*norm : nullptr;
  }
  static std::unique_ptr<nn::RMSNorm> norm_unless_none(const char* name, const DecoderConfig& c) {
    if (*name == '\0') return nullptr;
    return make_norm<nn::RMSNorm>(c);
  }

  const LayerStep step_;

 public:
  nn::Child<nn::RMSNorm> before_attention;
  nn::Child<Attention> self_attn;
  nn::Child<nn::RMSNorm> after_attention, before_mlp;
  nn::Child<nn::Layer> mlp;
  nn::Child<nn::RMSNorm> after_mlp;
};

// Attention and MLP side by side, on one norm (Phi, Cohere).
class ParallelLayer : public nn::Module {
 public:
  ParallelLayer(const DecoderConfig& c, std::unique_ptr<nn::Layer> feed_forward,
                const AttentionOptions& attention)
      : input_layernorm(this, c.names.input_layernorm, make_norm<nn::LayerNorm>(c)),
        self_attn(this, c.names.self_attn, c, attention),
        mlp(this, c.names.mlp, std::move(feed_forward)) {}

  mx::array operator()(const mx::array& x, KVCache* cache) const {
    const StepFrame frame{&*input_layernorm};
    const auto step = step_.attend(x, cache, *self_attn, frame, *mlp, frame, true);
    if (step.complete) return *step.h;
    const auto h = input_layernorm(x);
    return (step.h ? *step.h : x + self_attn(h, cache)) + mlp(h);
  }

 private:
  const LayerStep step_;

 public:
  nn::Child<nn::LayerNorm> input_layernorm;
  nn::Child<Attention> self_attn;
  nn::Child<nn::Layer> mlp;
};

// The config's own MLP, as these layers take it.
inline std::unique_ptr<nn::Layer> gated_mlp(const DecoderConfig& c) {
  auto mlp = std::make_unique<GatedMLP>(c.hidden_size, c.intermediate_size, c.hidden_act,
                                        c.mlp_bias, c.names);
  if (!c.names.inner_norm.empty()) mlp->inner_norm.emplace(c.intermediate_size, c.rms_norm_eps);
  return mlp;
}

}  // namespace mlxcpp::llm

#pragma once

#include <memory>
#include <utility>

#include "llm/blocks/attention.h"
#include "llm/blocks/mlp.h"

namespace mlxcpp::llm {

// The layer of Llama and of most decoders after it: h = x + attention(norm(x)), h + mlp(norm(h)).
// The MLP is a GatedMLP, a mixture of experts, or what else takes one array and gives one.
template <class SelfAttention = Attention>
class PreNormLayer : public nn::Module {
 public:
  // The attention is made of the config and the arguments that follow the MLP.
  template <class Config, class... AttentionArgs>
  PreNormLayer(const Config& c, std::unique_ptr<nn::Layer> feed_forward,
               AttentionArgs&&... attention)
      : input_layernorm(this, c.names.input_layernorm, c.hidden_size, c.rms_norm_eps),
        self_attn(this, c.names.self_attn, c, std::forward<AttentionArgs>(attention)...),
        post_attention_layernorm(this, c.names.post_attention_layernorm, c.hidden_size,
                                 c.rms_norm_eps),
        mlp(this, c.names.mlp, nn::absent) {
    mlp.set(std::move(feed_forward));
  }

  // [B, L, hidden] -> [B, L, hidden]
  mx::array operator()(const mx::array& x, KVCache* cache) const {
    const auto h = x + self_attn(input_layernorm(x), cache);
    return h + mlp(post_attention_layernorm(h));
  }

  nn::Child<nn::RMSNorm> input_layernorm;
  nn::Child<SelfAttention> self_attn;
  nn::Child<nn::RMSNorm> post_attention_layernorm;
  nn::Child<nn::Layer> mlp;
};

// The config's own MLP, as PreNormLayer takes it.
inline std::unique_ptr<nn::Layer> gated_mlp(const DecoderConfig& c) {
  return std::make_unique<GatedMLP>(c.hidden_size, c.intermediate_size, c.hidden_act, c.mlp_bias,
                                    c.names);
}

}  // namespace mlxcpp::llm

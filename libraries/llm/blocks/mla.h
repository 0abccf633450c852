#pragma once

#include <memory>
#include <optional>

#include "llm/blocks/config.h"
#include "llm/blocks/step.h"
#include "lm_common/kv_cache.h"
#include "nn/linear.h"
#include "nn/norm.h"
#include "nn/rope.h"
#include "nn/switch_layers.h"

namespace mlxcpp::llm {

// What config.json says about multi-head latent attention.
struct LatentAttentionConfig {
  std::optional<int> q_lora_rank;  // none: queries are not compressed
  int kv_lora_rank = 0;
  int qk_nope_head_dim = 0, qk_rope_head_dim = 0, v_head_dim = 0;

  int head_dim() const { return qk_nope_head_dim + qk_rope_head_dim; }
  // Sizes are positive; required unless the family has a default.
  void fields(ConfigReader& v);
};

// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434). Keys and values of all heads are
// linear maps of one latent vector a token, and positions are in one further part of the key that
// all heads share: these two are all that the cache holds. The maps are applied to queries and
// results instead of keys and values, so that every head attends to the latents themselves.
class LatentAttention : public nn::Module, public StepAttention {
 public:
  // scale: of the scores; bias: of the projections to the latents and of the last one.
  LatentAttention(const DecoderConfig& c, const LatentAttentionConfig& a,
                  std::shared_ptr<const nn::RoPE> rope, float scale, bool bias = false);

  // [B, L, hidden] -> [B, L, hidden]
  mx::array operator()(const mx::array& x, KVCache* cache) const;

  // Where the heads' matrices are quantised.
  bool set_step_part(kernels::LayerPart& part) const override;
  std::optional<StepCall> step_call(int L, const KVCache& cache) const override;

 private:
  const LatentAttentionConfig a_;
  const int heads_;
  const std::shared_ptr<const nn::RoPE> rope_;
  const kernels::AttentionOptions attention_;

 public:
  nn::Child<nn::Linear> q_proj, q_a_proj, q_b_proj;
  nn::Child<nn::RMSNorm> q_a_layernorm;
  nn::Child<nn::Linear> kv_a_proj_with_mqa;
  nn::Child<nn::RMSNorm> kv_a_layernorm;
  // A matrix a head: from the head's query to the latent space, and from there to its values.
  nn::Child<nn::SwitchLinear> embed_q, unembed_out;
  nn::Child<nn::Linear> o_proj;
};

// The factor by which yarn raises the scale of scores (`mscale_all_dim`); 1 for other rope types.
float yarn_attention_factor(const nn::RopeConfig& rope);

// Published "...self_attn.kv_b_proj" [heads * (nope + v), rank] -> embed_q and unembed_out.
nn::Weights split_latent_projections(nn::Weights weights, int heads,
                                     const LatentAttentionConfig& a);

}  // namespace mlxcpp::llm

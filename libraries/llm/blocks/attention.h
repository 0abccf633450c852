#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "llm/blocks/config.h"
#include "llm/blocks/step.h"
#include "lm_common/kv_cache.h"
#include "nn/linear.h"
#include "nn/norm.h"
#include "nn/rope.h"

namespace mlxcpp::llm {

// The norm of queries and keys before they turn.
enum class QkNorm {
  none,
  rms,            // RMS norm of each head
  rms_plus_one,   // in Gemma's form, 1 + weight
  rms_all_heads,  // RMS norm over the heads together
  layer,          // LayerNorm of each head, with bias
  layer_by_head,  // LayerNorm of each head without bias, a weight of its own for every head
};

// What differs between families in grouped-query attention.
struct AttentionOptions {
  std::optional<float> scale;  // default: 1/sqrt(head_dim)
  bool qkv_bias = false;
  bool output_bias = false;
  bool qkv_grouped = false;  // rows of a fused projection: of each key head its queries, key, value
  QkNorm qk_norm = QkNorm::none;
  std::string output_norm;  // name of an RMS norm of what the output projection gets; "": none
  std::optional<int> window;
  float softcap = 0.0f;
  std::shared_ptr<const nn::RoPE>
      rope;  // none: no positions (NoPE layers). Shared: its tables are the same in every layer
};

// Grouped-query attention (arXiv 2305.13245) with rotary positions and a KV cache.
class Attention : public nn::Module, public StepAttention {
 public:
  Attention(const DecoderConfig& c, const AttentionOptions& o);

  // [B, L, hidden] -> [B, L, hidden]
  mx::array operator()(const mx::array& x, KVCache* cache) const;

  bool set_step_part(kernels::LayerPart& part) const override;
  std::optional<StepCall> step_call(int L, const KVCache& cache) const override;

 private:
  // Queries, keys and values of x, [B, L, heads, head_dim] each.
  std::array<mx::array, 3> project(const mx::array& x) const;

  const int heads_, kv_heads_, head_dim_;
  const bool qkv_grouped_;
  const QkNorm qk_norm_;
  const std::shared_ptr<const nn::RoPE> rope_;
  const kernels::AttentionOptions attention_;

 public:
  nn::Child<nn::Linear> q_proj, k_proj, v_proj, qkv_proj;  // three, or one
  nn::Child<nn::RMSNorm> output_norm;
  nn::Child<nn::Linear> o_proj;
  nn::Child<nn::Layer> q_norm, k_norm;  // see [B, L, heads, head_dim]
};

}  // namespace mlxcpp::llm

// Steps of decoding as one operation a layer (kernels/decoder_step.h). The layers of
// decoder_layer.h ask for one at every call, and go operation by operation where there is none: on
// another device, for more than a few rows, in a transform (gradients), before an Observer, with
// linear layers of other kinds (LoRA) or caches that have none.
#pragma once

#include <memory>
#include <optional>

#include "kernels/decoder_step.h"
#include "lm_common/kv_cache.h"
#include "nn/linear.h"
#include "nn/norm.h"
#include "nn/rope.h"
#include "nn/switch_layers.h"

namespace mlxcpp::llm {

// A layer's parts, as the kernel takes them. None for other kinds than Linear, QuantizedLinear,
// BitLinear (which leaves activations as they are), RMSNorm and LayerNorm themselves.
std::optional<kernels::LinearPart> step_part(const nn::Linear& linear);
std::optional<kernels::NormPart> step_part(const nn::Layer& norm);
// Experts, or matrices of heads, that are quantised and have no bias.
std::optional<kernels::QuantizedMatrix> step_stack(const nn::SwitchLinear& layer);

// How attention or an MLP stands in its layer: residual + multiplier * after(f(before(x))).
struct StepFrame {
  const nn::Layer* before = nullptr;
  const nn::Layer* after = nullptr;
  float multiplier = 1.0f;
};

// False where a norm is of another kind.
bool set_step_frame(kernels::FramePart& part, const StepFrame& frame);

// Attention that may be in a step.
class StepAttention {
 public:
  virtual ~StepAttention() = default;

  // Puts its parts there, with an empty frame. False where it must go operation by operation.
  virtual bool set_step_part(kernels::LayerPart& part) const = 0;
  // Rope of L tokens (none: no positions), and what the attention kernel takes.
  struct StepCall {
    std::optional<kernels::StepRope> rope;
    const kernels::AttentionOptions& options;
  };
  virtual std::optional<StepCall> step_call(int L, const KVCache& cache) const = 0;
};

// A step's rope of L tokens from `at` on, `expected` of them in all (KVCache::expected()); none
// where it has no table for that (rope by other rules).
std::optional<kernels::StepRope> step_rope(const nn::RoPE& rope, kernels::Positions at, int L,
                                           int expected);

// The steps of one layer, which owns it: it keeps what it has prepared until a weight changes.
class LayerStep {
 public:
  struct Result {
    std::optional<mx::array> h;  // the residual after attention; none: do it
    bool complete = false;       // the MLP is in it
  };
  // Attention, and the MLP with it where that fits, too. x f32 [B, L, hidden]. side_by_side: the
  // MLP sees x.
  Result attend(const mx::array& x, KVCache* cache, const StepAttention& attention,
                const StepFrame& attention_frame, const nn::Layer& mlp, const StepFrame& mlp_frame,
                bool side_by_side = false) const;
  // A layer with parts of its own (Gemma 3n), whole: x [B, L, width]. None: do it.
  std::optional<mx::array> whole(const mx::array& x, const mx::array& per_layer, KVCache* cache,
                                 const kernels::LayerPart& part,
                                 const StepAttention::StepCall& call) const;
  // The MLP of x, and the residual. None: do it.
  std::optional<mx::array> feed_forward(const mx::array& x, const mx::array& residual,
                                        const nn::Layer& mlp, const StepFrame& frame) const;

 private:
  struct Plan {
    std::shared_ptr<const kernels::LayerPlan> plan;

    // The plan of this very part; null where there is none.
    const std::shared_ptr<const kernels::LayerPlan>& of(const kernels::LayerPart& part);
  };
  mutable Plan attention_, mlp_;
};

}  // namespace mlxcpp::llm

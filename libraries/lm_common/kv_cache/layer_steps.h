#pragma once

#include <memory>
#include <optional>

#include "kernels/attention.h"
#include "kernels/decoder_step.h"

namespace mlxcpp {

// A KV cache around which a whole layer's step can be one operation (kernels/decoder_step.h). What
// asks for one finds out by dynamic_cast.
class LayerSteps {
 public:
  virtual ~LayerSteps() = default;

  // The step of a layer on x [B, L, plan->width()], with attend() in it, or attend_shared() where
  // the plan's attention is shared. `plan` has attention, o no mask. per_layer: what the plan takes
  // besides. None where it must go operation by operation: nothing has happened then.
  virtual std::optional<mlx::core::array> layer_step(
      const mlx::core::array& x, const std::optional<mlx::core::array>& per_layer,
      const std::shared_ptr<const kernels::LayerPlan>& plan,
      const std::optional<kernels::StepRope>& rope, const kernels::AttentionOptions& o) = 0;
};

}  // namespace mlxcpp

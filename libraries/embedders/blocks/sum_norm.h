#pragma once

#include "kernels/norm_fused.h"
#include "nn/norm.h"

namespace mlxcpp::embedders {

namespace mx = mlx::core;

// norm(x + residual), in one pass where a kernel has it. x and residual of one shape.
inline mx::array norm_of_sum(const nn::Child<nn::LayerNorm>& norm, const mx::array& x,
                             const mx::array& residual) {
  return norm->weight ? kernels::add_layer_norm(x, residual, *norm->weight, norm->bias.optional(),
                                                norm->eps())
                      : norm(x + residual);
}

}  // namespace mlxcpp::embedders

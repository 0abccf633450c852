#pragma once

#include <optional>

#include <mlx/mlx.h>

namespace mlxcpp::kernels {

namespace mx = mlx::core;

// A norm, a scale or a shift of rows, and what goes with it, in one pass over memory where there is
// a kernel (f32 on CPU). x [..., D], weight [D], residual of x's shape. Differentiable. Error if
// shapes do not fit.
mx::array rms_norm_gelu_approx(const mx::array& x, const mx::array& weight, float eps);
mx::array rms_norm_add(const mx::array& x, const mx::array& weight, const mx::array& residual,
                       float eps);  // rms_norm(x, weight) + residual
mx::array scale_add(const mx::array& x, const mx::array& weight,
                    const mx::array& residual);  // x * weight + residual
mx::array add_layer_norm(const mx::array& x, const mx::array& residual, const mx::array& weight,
                         const std::optional<mx::array>& bias,
                         float eps);                            // layer_norm(x + residual)
mx::array add_bias(const mx::array& x, const mx::array& bias);  // x + bias, in x's memory if free

}  // namespace mlxcpp::kernels

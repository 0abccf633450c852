#pragma once

#include <optional>

#include <mlx/mlx.h>

namespace mlxcpp::kernels {

namespace mx = mlx::core;

// x [..., D], weight and bias [D] or none. Statistics in f32 whatever the dtype. Differentiable.
mx::array rms_norm(const mx::array& x, const std::optional<mx::array>& weight, float eps);
mx::array layer_norm(const mx::array& x, const std::optional<mx::array>& weight,
                     const std::optional<mx::array>& bias, float eps);

}  // namespace mlxcpp::kernels

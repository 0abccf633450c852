#pragma once

#include <optional>

#include <mlx/mlx.h>

namespace mlxcpp::kernels {

namespace mx = mlx::core;

// x [..., K] times the transpose of weight [N, K], plus bias [N]: [..., N]. f32, bf16 or f16; sums
// in f32. Differentiable.
mx::array linear(const mx::array& x, const mx::array& weight,
                 const std::optional<mx::array>& bias = {});

}  // namespace mlxcpp::kernels

#pragma once

#include <optional>

#include <mlx/mlx.h>

namespace mlxcpp::kernels {

namespace mx = mlx::core;

// x [..., K] times the transpose of weight [N, K], plus bias [N]: [..., N]. f32, bf16 or f16 each
// (the result has the widest of their types, as in MLX); sums in f32, also of halves, so that bf16
// keeps its range. A row's result does not depend on how many rows there are. Differentiable.
mx::array linear(const mx::array& x, const mx::array& weight,
                 const std::optional<mx::array>& bias = {});

// a [..., M, K] b [..., K, N] with batch axes broadcast, as mx::matmul, but sums in f32 and at the
// CPU's speed. Transposed operands are read in place. Differentiable.
mx::array matmul(const mx::array& a, const mx::array& b);

}  // namespace mlxcpp::kernels

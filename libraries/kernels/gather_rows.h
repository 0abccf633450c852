#pragma once

#include <mlx/mlx.h>

namespace mlxcpp::kernels {

// x [T, K] as MLX's gather_mm and gather_qmm want it: [T, 1, K]. Neither a view nor expand_dims: on
// GPUs the sorted gather_mm of MLX 0.32 takes the stride of the new axis for that of the rows
// (ml-explore/mlx #4253).
inline mlx::core::array gather_rows(const mlx::core::array& x) {
  namespace mx = mlx::core;
  return mx::reshape(mx::contiguous(x), {x.shape(0), 1, x.shape(1)});
}

}  // namespace mlxcpp::kernels

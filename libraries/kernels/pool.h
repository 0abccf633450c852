#pragma once

#include <array>

#include <mlx/mlx.h>

namespace mlxcpp::kernels {

namespace mx = mlx::core;

// The largest or the mean of every window of x [N, H, W, C] -> [N, H', W', C]; windows that would
// reach beyond the edge are left out. Differentiable: where several elements of a window are the
// largest, they share the gradient, as in MLX. f32 on a CPU by kernels of ours, with the same bits
// for any number of threads, else by MLX's operations. Error unless the window fits and all sizes
// are positive.
mx::array max_pool2d(const mx::array& x, std::array<int, 2> window, std::array<int, 2> stride);
mx::array mean_pool2d(const mx::array& x, std::array<int, 2> window, std::array<int, 2> stride);

}  // namespace mlxcpp::kernels

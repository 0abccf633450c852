#pragma once

#include <vector>

#include <mlx/mlx.h>

namespace mlxcpp::kernels {

namespace mx = mlx::core;

// x [N, H, W, C] -> [N, rows, columns, C], each pixel that of x at floor(i * H / rows), as
// PyTorch's "nearest". Any dtype. Differentiable.
mx::array resize_nearest(const mx::array& x, int rows, int columns);

// Arrays [..., C1], [..., C2], ... side by side: [..., C1 + C2 + ...], of one dtype.
mx::array join_channels(const std::vector<mx::array>& parts);

}  // namespace mlxcpp::kernels

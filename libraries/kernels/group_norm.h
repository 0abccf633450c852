#pragma once

#include <mlx/mlx.h>

namespace mlxcpp::kernels {

namespace mx = mlx::core;

// x [N, ..., C]: less the mean, over the deviation, of each row of N and group of C / groups
// neighbouring channels; times weight plus bias [C] (Wu and He, arXiv 1803.08494, as PyTorch orders
// channels). `silu`: then y sigmoid(y), in the same pass. Statistics in f32 and f64 whatever the
// dtype, which is the result's. The same bits for any number of threads. Differentiable.
mx::array group_norm(const mx::array& x, int groups, const mx::array& weight, const mx::array& bias,
                     float eps, bool silu = false);

}  // namespace mlxcpp::kernels

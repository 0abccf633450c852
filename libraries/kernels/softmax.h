#pragma once

#include <mlx/mlx.h>

namespace mlxcpp::kernels {

namespace mx = mlx::core;

// Over the last axis of x [..., N], in x's dtype; sums in f32 (f64 between pieces of long rows), of
// exp(x - max). Long rows are shared among threads. Differentiable.
mx::array softmax(const mx::array& x);
mx::array log_softmax(const mx::array& x);

}  // namespace mlxcpp::kernels

#pragma once

#include <mlx/mlx.h>

namespace mlxcpp::kernels {

namespace mx = mlx::core;

// -log softmax(logits)[target] over the last axis: logits [..., V], targets integers [...] -> [...]
// in logits' dtype. Sums in f32, in f64 between pieces of long rows. On a CPU neither the softmax
// nor its logarithm is ever stored, and the gradient takes the logits' place in memory where nobody
// else needs them. Differentiable with respect to the logits. A target out of range is an Error
// when the result is evaluated.
mx::array cross_entropy(const mx::array& logits, const mx::array& targets);

}  // namespace mlxcpp::kernels

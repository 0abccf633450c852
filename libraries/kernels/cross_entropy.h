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

// The same for logits that nobody else will read. Where gradients are being built (AnyOrderScope)
// and the logits are a product x weight^T that has not been computed, of f32 x [T, K] by a weight
// that is not trained, they are computed some rows at a time with the gradient of x beside them,
// and are never in memory together: what matters where the vocabulary is large. Otherwise
// cross_entropy. There is no second derivative.
mx::array last_cross_entropy(const mx::array& logits, const mx::array& targets);

}  // namespace mlxcpp::kernels

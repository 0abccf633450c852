#pragma once

#include <mlx/mlx.h>

namespace mlxcpp::kernels {

namespace mx = mlx::core;

// Choosing from logits [..., V] without sorting the vocabulary. Not differentiable.

// The index of the largest: uint32 [...]. The first of equals; NaN is never chosen while there is a
// number.
mx::array argmax(const mx::array& logits);

// The k largest, best first (equals: lower index first; NaN counts as -inf). k from 1 to V,
// otherwise Error.
struct TopK {
  mx::array values;   // [..., k], the logits' dtype
  mx::array indices;  // [..., k], uint32
};
TopK top_k(const mx::array& logits, int k);

}  // namespace mlxcpp::kernels

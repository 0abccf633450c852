#pragma once

#include <algorithm>

#include "kernels/precision.h"
#include "nn/linear.h"

namespace mlxcpp::embedders {

namespace mx = mlx::core;

// layer(x) at `high` precision even where `fast` was asked for, which matters when its weights are
// quantised. For the feed-forward of an encoder. It has no words to choose from, so that every
// rounding stays in its vector: with 8-bit weights and one int8 plane of activations everywhere, a
// text of one word is off by 1.6e-3 of cosine; with two planes for values and the feed-forward by
// 4e-4, half of it by the values' weights. So these stay in floats (TextEncoder::kept_in_floats),
// which leaves 2e-4. Queries and keys, which meet in a softmax, and the attention's output add a
// tenth of that.
inline mx::array carefully(const nn::Child<nn::Linear>& layer, const mx::array& x) {
  const kernels::PrecisionScope scope(std::max(kernels::precision(), kernels::Precision::high));
  return layer(x);
}

}  // namespace mlxcpp::embedders

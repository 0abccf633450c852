#pragma once

#include <mlx/mlx.h>

namespace mlxcpp {

namespace mx = mlx::core;

// Steps of sampling for which plain MLX sorts or scans the whole vocabulary on one thread. On other
// devices than the CPU, and for other types than f32, they are those plain operations.

// sampling.h's top_p: only what can be part of the nucleus is sorted.
mx::array nucleus(const mx::array& logprobs, float p);

// Draws from weights >= 0 [B, V], not all 0 in a row, with one number of [0, 1) a row ([B, 1]):
// int32 [B]. Inverse transform sampling: the first index at which the running sum exceeds
// uniform * total.
mx::array draw(const mx::array& weights, const mx::array& uniform);

}  // namespace mlxcpp

#pragma once

#include <optional>
#include <variant>

#include <mlx/mlx.h>

namespace mlxcpp::kernels {

namespace mx = mlx::core;

// Where the first token of x stands: one offset for all rows, or int32 [B], one for each. Layers
// may also be given int32 [3, B, L], every token's place in time, height and width (nn::RoPE).
using Positions = std::variant<int, mx::array>;

// Rotary embedding of the first `dims` of the last axis of x [B, H, L, D] (RoFormer, arXiv
// 2104.09864). inv_freq: f32 [dims/2], radians per position. scale multiplies the rotated part
// (yarn's and longrope's attention factor). traditional: pairs (2i, 2i+1); otherwise (i, i +
// dims/2). Differentiable.
mx::array rope(const mx::array& x, int dims, bool traditional, const mx::array& inv_freq,
               float scale, const Positions& positions);

}  // namespace mlxcpp::kernels

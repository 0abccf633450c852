#pragma once

#include <array>
#include <optional>

#include <mlx/mlx.h>

namespace mlxcpp::kernels {

namespace mx = mlx::core;

struct Conv2dOptions {
  std::array<int, 2> stride = {1, 1}, padding = {0, 0}, dilation = {1, 1};  // rows, columns
  int groups = 1;
  // Zeros below and to the right, where they are not as many as above and to the left (`padding`).
  std::optional<std::array<int, 2>> padding_end = {};

  bool operator==(const Conv2dOptions&) const = default;
};

// What is added to the sums before they are rounded to the result's type.
struct ConvAddends {
  std::optional<mx::array> bias = {};      // [K]
  std::optional<mx::array> shift = {};     // [N, K]: to every pixel of a picture
  std::optional<mx::array> residual = {};  // of the result's shape
};

// x [N, H, W, C] with weight [K, kh, kw, C / groups] -> [N, H', W', K] in the widest of their
// types (cross-correlation, zeros beyond the edges). On CPU f32, bf16 and f16, with sums in f32:
//   3x3 at stride 1 and many channels: Winograd's minimal filtering F(4x4, 3x3) in f32 (Lavin and
//     Gray, arXiv 1509.09308), a quarter of the multiplications;
//   one channel a group: by channels;
//   all else: an implicit matrix product, of bf16 pairs where the CPU multiplies those.
// The same bits for any number of threads. Differentiable: f32 in one group by these kernels
// (conv_grad.h), else through MLX's operations, which other devices and dtypes get, too. Error if
// shapes do not fit.
mx::array conv2d(const mx::array& x, const mx::array& weight, const Conv2dOptions& options = {},
                 const ConvAddends& addends = {});

}  // namespace mlxcpp::kernels

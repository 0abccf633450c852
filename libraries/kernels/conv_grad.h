#pragma once

#include "kernels/conv.h"
#include "kernels/primitive.h"

// The backward pass of conv2d: f32 on the CPU, one group. Shapes have been checked in the forward
// pass.
namespace mlxcpp::kernels {

// Whether these take it: padding is at most what the filter reaches, as it nearly always is.
bool has_conv_gradient(const mx::array& x, const mx::array& weight, const mx::array& dy,
                       const Conv2dOptions& o, mx::Stream s);

// The product alone, in MLX's operations.
mx::array conv2d_plain(const mx::array& x, const mx::array& weight, const Conv2dOptions& o);

// With respect to x [N, H, W, C]: a convolution with the filters turned round, of dy with zeros
// between its pixels where the stride is above 1.
mx::array conv_input_grad(const mx::array& x, const mx::array& weight, const mx::array& dy,
                          const Conv2dOptions& o);

// With respect to weight [K, kh, kw, C] and bias [K]: {dweight, dbias}.
Arrays conv_weight_grad(const mx::array& x, const mx::array& weight, const mx::array& dy,
                        const Conv2dOptions& o, mx::Stream s);

}  // namespace mlxcpp::kernels

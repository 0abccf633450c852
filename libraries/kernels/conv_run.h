#pragma once

#include <cstddef>

#include "kernels/conv.h"
#include "kernels/float_type.h"
#include "kernels/floats.h"

namespace mlxcpp::kernels {

// A convolution of contiguous arrays: x [n, height, width, channels], weight [outputs, kernel,
// channels / groups], y [n, out_height, out_width, outputs]. Pairs are rows, columns.
struct ConvShape {
  size_t n, height, width, channels, outputs, out_height, out_width;
  size_t kernel[2], stride[2], padding[2], dilation[2];
  size_t groups;

  size_t taps() const { return kernel[0] * kernel[1]; }
  size_t pixels() const { return n * out_height * out_width; }
};

// Of arrays of these shapes, weight [K, kh, kw, C / groups].
ConvShape conv_shape(const mlx::core::Shape& x, const mlx::core::Shape& weight,
                     const mlx::core::Shape& y, const Conv2dOptions& o);

struct ConvArrays {
  const void* x;
  FloatType x_type;
  const void* weight;
  FloatType weight_type;
  const float* bias;  // [outputs], or [n, outputs] when a row for each picture
  bool bias_each;
  const void* residual;  // of y's shape and type; null: none
  void* y;
  FloatType y_type;
};

// Runs it on the thread pool; the same bits for any number of threads.
void run_conv(const ConvShape& shape, const ConvArrays& arrays);

// The ways that run_conv chooses from.
void run_conv_direct(const ConvShape& shape, const ConvArrays& arrays);
void run_conv_depthwise(const ConvShape& shape, const ConvArrays& arrays);
bool winograd_fits(const ConvShape& shape);  // whether it can, and is worth its while
void run_conv_winograd(const ConvShape& shape, const ConvArrays& arrays);

// The gradients of weight [outputs, kernel, channels] and bias [outputs], of f32 arrays with one
// group, from dy, of y's shape.
void run_conv_weight_grad(const ConvShape& shape, const float* x, const float* dy, float* dw,
                          float* db);

// Rows of weights, `length` numbers each, of which some are turned to a panel [length][columns];
// columns without a row are zero. Pairs of bf16 go as f32.
struct PanelSource {
  const void* weight;
  FloatType type;
  size_t row_stride, length;
};
void pack_panel(const PanelSource& source, size_t row, size_t rows, size_t columns, float* panel);

// Room that each thread keeps for its next piece of work: 0 to 3.
Floats& conv_scratch(int which);

// y [m, n] = a [m, k] b^T + bias of bf16 (rows at any distance, elements dense), by the
// instruction for bf16 pairs. False when this CPU has none, or k is odd.
bool run_bf16_matmul(const void* a, size_t a_stride, const void* b, size_t b_stride,
                     const float* bias, void* y, FloatType y_type, size_t m, size_t n, size_t k);

}  // namespace mlxcpp::kernels

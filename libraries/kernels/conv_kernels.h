#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/float_type.h"

namespace mlxcpp::kernels {

// Windows of size[0] x size[1] pixels side by side, `step` pixels apart. x points to the first
// pixel of the first; its rows are `row` floats apart.
struct PoolRow {
  size_t windows, channels, size[2], step, row;
};

// The loops of convolution, group norm and pooling, which know nothing of MLX: one table for each
// instruction set.
//
// A panel holds the weights of `columns` output channels, the summed axis outermost: [k][columns].
// A tile is some rows (pixels) by the columns of a panel, kept in registers while the summed axis
// runs; the rows are read where they lie, one pointer for each row and filter tap.
struct ConvKernels {
  size_t rows;         // of a tile, at most
  size_t columns;      // of a panel
  size_t narrow_rows;  // the same of a panel of columns / 2

  // c[i * ldc + column] = or += sum over taps t and k of rows[t * m + i][k] * panel[t * k +
  // k][column], i < m.
  void (*multiply)(const float* const* rows, size_t m, size_t taps, size_t k, const float* panel,
                   float* c, size_t ldc, bool add);
  // The same with a panel of columns / 2, at most narrow_rows rows.
  void (*multiply_narrow)(const float* const* rows, size_t m, size_t taps, size_t k,
                          const float* panel, float* c, size_t ldc, bool add);
  // As multiply, for pairs of bf16: k counts pairs, rows and panel hold two numbers in 32 bits.
  // Null where the CPU has no instruction for it.
  void (*multiply_bf16)(const float* const* rows, size_t m, size_t taps, size_t k,
                        const float* panel, float* c, size_t ldc, bool add);

  // y[i] = sum over taps of rows[t][i] * weights[t * n + i].
  void (*depthwise[kFloatTypes])(const void* const* rows, size_t taps, const float* weights,
                                 size_t n, float* y);

  // y = c + bias + residual, rounded to the type; either may be null.
  void (*finish[kFloatTypes])(const float* c, const float* bias, const void* residual, void* y,
                              size_t n);

  // Winograd F(4x4, 3x3), for channels [0, n):
  //   input: 36 rows (the 6x6 pixels of a tile) to v[p * stride + i];
  void (*winograd_input[kFloatTypes])(const void* const* rows, size_t n, float* v, size_t stride);
  //   weights: g [9][n] (`g_stride` between taps) to u[p * u_stride + i];
  void (*winograd_weights)(const float* g, size_t g_stride, size_t n, float* u, size_t u_stride);
  //   output: m[p * stride + i] to the 4x4 pixels y[q * n + i].
  void (*winograd_output)(const float* m, size_t stride, size_t n, float* y);

  // Group norm. Sums over `pixels` rows of n channels: of x; of (x - mean)^2, a mean a channel.
  void (*channel_sums[kFloatTypes])(const void* x, size_t pixels, size_t n, float* sums);
  void (*channel_squares[kFloatTypes])(const void* x, size_t pixels, size_t n, const float* mean,
                                       float* sums);
  // y = (x - mean) * scale + shift, each a channel; through x sigmoid(x) if silu.
  void (*normalise[kFloatTypes])(const void* x, size_t pixels, size_t n, const float* mean,
                                 const float* scale, const float* shift, bool silu, void* y);

  // A row of pooling windows, f32: the largest or the mean of each to y [windows][channels]; the
  // gradient is added to dx, for the largest in equal parts to all elements that are it.
  void (*max_pool)(const PoolRow& p, const float* x, float* y);
  void (*max_pool_grad)(const PoolRow& p, const float* x, const float* y, const float* dy,
                        float* dx);
  void (*mean_pool)(const PoolRow& p, const float* x, float* y);
  void (*mean_pool_grad)(const PoolRow& p, const float* dy, float* dx);
};

extern const ConvKernels kConvKernelsGeneric, kConvKernelsAvx2, kConvKernelsAvx512;

// multiply_bf16 for CPUs with AVX512_BF16 (tile and panel as kConvKernelsAvx512's).
void conv_multiply_bf16_avx512(const float* const* rows, size_t m, size_t taps, size_t k,
                               const float* panel, float* c, size_t ldc, bool add);

// Those of isa(), with multiply_bf16 where this CPU has it.
const ConvKernels& conv_kernels();

// The largest tile and panel of any table, for buffers on the stack.
inline constexpr size_t kMostConvRows = 16, kMostConvColumns = 32;

}  // namespace mlxcpp::kernels

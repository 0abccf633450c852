#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/float_type.h"

namespace mlxcpp::kernels {

// The loops of the float matrix product, which know nothing of MLX: one table for each instruction
// set. Both operands lie with the summed axis (k) innermost, so that an element of the product is
// one running sum of vectors, folded once at the end of each stretch of k. Which sums are formed
// depends on k alone: a row of the product has the same bits alone and among 512 others.
struct MatmulKernels {
  // Rows of x that a tile multiplies at once; products of at most twice as many rows read the
  // weights in place, larger ones repack them.
  size_t tile_rows;

  // dst [rows, ld] in f32 from src, whose strides are in elements. Any strides; one of them is
  // best 1.
  void (*pack[kFloatTypes])(const void* src, ptrdiff_t row_stride, ptrdiff_t k_stride, size_t rows,
                            size_t k, float* dst, size_t ld);

  // c[m, n] (ldc between rows) = or += sum over k of x[m, k] * w[n, k], for one stretch of k. x and
  // c are f32; strides in elements.
  void (*multiply[kFloatTypes])(const float* x, size_t ldx, size_t m, const void* w, size_t ldw,
                                size_t n, size_t k, float* c, size_t ldc, bool add);

  // y = c + bias (f32, may be null), rounded to the type.
  void (*finish[kFloatTypes])(const float* c, const float* bias, void* y, size_t n);
};

// Columns of w that `multiply` takes at once.
inline constexpr size_t kTileColumns = 4;

extern const MatmulKernels kMatmulKernelsGeneric, kMatmulKernelsAvx2, kMatmulKernelsAvx512;

// Those of isa().
const MatmulKernels& matmul_kernels();

}  // namespace mlxcpp::kernels

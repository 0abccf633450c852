#pragma once

#include <cstddef>
#include <cstdint>

namespace mlxcpp::kernels {

// The loop of the product with a ternary matrix, which knows nothing of MLX: one for each
// instruction set. `codes` are k bytes, the row r of a packed matrix (ternary.h): for each of m
// rows of x (f32, ldx apart) it gives four sums, scale * sum over k of x[k] * value, the j-th at
// y[j * distance] (ldy apart for the rows of x). An element's bits depend on its row of x alone.
struct TernaryKernels {
  void (*multiply)(const float* x, size_t ldx, size_t m, const uint8_t* codes, size_t k,
                   float scale, float* y, size_t ldy, size_t distance);
};

extern const TernaryKernels kTernaryKernelsGeneric, kTernaryKernelsAvx2, kTernaryKernelsAvx512;

}  // namespace mlxcpp::kernels

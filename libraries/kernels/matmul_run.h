#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/float_type.h"

namespace mlxcpp::kernels {

// A matrix in memory; strides in elements, of any sign.
struct MatrixView {
  const void* data;
  FloatType type;
  ptrdiff_t row_stride, column_stride;
};

// y [m, n] = a [m, k] b^T + bias, b being [n, k]; y of type y_type lies contiguous, bias (f32 [n])
// may be null. Sums in f32; the bits of an element depend on its row of a and of b alone. Uses the
// thread pool; m, n, k may be 0.
void matmul_run(const MatrixView& a, const MatrixView& b, const float* bias, void* y,
                FloatType y_type, size_t m, size_t n, size_t k);

}  // namespace mlxcpp::kernels

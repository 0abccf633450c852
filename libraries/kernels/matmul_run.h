#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/ceil_div.h"
#include "kernels/float_type.h"

namespace mlxcpp::kernels {

inline size_t size_of(FloatType t) { return t == FloatType::f32 ? 4 : 2; }

// A matrix in memory; strides in elements, of any sign.
struct MatrixView {
  const void* data;
  FloatType type;
  ptrdiff_t row_stride, column_stride;

  const void* at(size_t row, size_t column) const {
    const ptrdiff_t offset =
        static_cast<ptrdiff_t>(row) * row_stride + static_cast<ptrdiff_t>(column) * column_stride;
    return static_cast<const std::byte*>(data) + offset * static_cast<ptrdiff_t>(size_of(type));
  }
};

inline MatrixView transposed(const MatrixView& v) {
  return {v.data, v.type, v.column_stride, v.row_stride};
}

// Distance between repacked rows of k floats: whole lines, and no multiple of a page, since such
// rows would compete for the same lines of the cache.
inline size_t row_distance(size_t k) {
  const size_t lines = ceil_div(k, 16) * 16;
  return lines % 256 == 0 ? lines + 16 : lines;
}

// Rows of f32 one after the other.
inline MatrixView dense(const float* data, size_t columns) {
  return {data, FloatType::f32, static_cast<ptrdiff_t>(columns), 1};
}

// y [m, n] = a [m, k] b^T + bias, b being [n, k]; y of type y_type lies contiguous, bias (f32 [n])
// may be null. Sums in f32; the bits of an element depend on its row of a and of b alone. Uses the
// thread pool; m, n, k may be 0.
void matmul_run(const MatrixView& a, const MatrixView& b, const float* bias, void* y,
                FloatType y_type, size_t m, size_t n, size_t k);

}  // namespace mlxcpp::kernels

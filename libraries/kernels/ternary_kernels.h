#pragma once

#include <cstddef>
#include <cstdint>

namespace mlxcpp::kernels {

// The loops of the product with a ternary matrix, which know nothing of MLX: one table for each
// instruction set. `codes` are k bytes, the row r of a packed matrix (ternary.h): for each of m
// rows of x they give four sums, scale * sum over k of x[k] * value, the j-th at y[j * distance]
// (ldy apart for the rows of x). An element's bits depend on its row of x alone.
struct TernaryKernels {
  // x f32, ldx apart.
  void (*multiply)(const float* x, size_t ldx, size_t m, const uint8_t* codes, size_t k,
                   float scale, float* y, size_t ldy, size_t distance);
  // Rounds k numbers to one int8 plane, or to two that hold 15 bits, with one scale for all: to
  // ternary_packed_bytes(k, planes). A row that is not finite multiplies to NaN.
  void (*pack)(const float* x, size_t k, int planes, uint8_t* packed);
  // The same product of packed rows, one after the other.
  void (*multiply_packed)(const uint8_t* packed, int planes, size_t m, const uint8_t* codes,
                          size_t k, float scale, float* y, size_t ldy, size_t distance);

  // The same product again, for many rows of x, by tables (ternary_tables-inl.h). First the codes
  // of each packed row r become places in them, at out + r * kIndexRow for the first kIndexColumns
  // columns, `distance` further for the next; false where a code is 3, which has no place.
  bool (*index)(const uint8_t* codes, size_t k, uint16_t* out, size_t distance);
  // Rows of x that the tables hold; 0: there are none.
  size_t table_rows;
  // Up to so many packed rows with packed rows [begin, end) of all, which are `rows` and indexed
  // from row 0 on: the j-th sums of row r at y[r + j * rows]. k at most kTableColumns. `room` has
  // 4 * table_rows numbers for each of [begin, end), on a cache line.
  void (*multiply_tables)(const uint8_t* packed, int planes, size_t m, size_t k,
                          const uint16_t* index, size_t rows, size_t begin, size_t end, float scale,
                          float* y, size_t ldy, int32_t* room);
};

inline constexpr size_t kIndexColumns = 32, kIndexRow = kIndexColumns;
inline constexpr size_t kTableColumns = size_t{1} << 16;  // whose sums fit 32 bits

// A head with the scale and the sum of the row, then the planes.
inline constexpr size_t kTernaryHead = 64;
constexpr size_t ternary_plane_bytes(size_t k) { return (k + 63) / 64 * 64; }
constexpr size_t ternary_packed_bytes(size_t k, int planes) {
  return kTernaryHead + static_cast<size_t>(planes) * ternary_plane_bytes(k);
}

extern const TernaryKernels kTernaryKernelsGeneric, kTernaryKernelsAvx2, kTernaryKernelsAvx512;

}  // namespace mlxcpp::kernels

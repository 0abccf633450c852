// Ternary products on pointers, for ternary.h and for products within other primitives.
#pragma once

#include <algorithm>

#include "kernels/precision.h"
#include "kernels/rows.h"
#include "kernels/ternary_kernels.h"

namespace mlxcpp::kernels {

// Those of isa().
const TernaryKernels& ternary_kernels();

// In how many int8 planes x is held; 0: as it is.
int ternary_planes(Precision p);

struct TernaryMatrix {
  const uint8_t* codes = nullptr;
  size_t packed_rows = 0;  // each holds four rows
  float scale = 1.0f;
};

// Rows x [m, k] of a product.
struct TernaryInput {
  const float* x = nullptr;
  size_t m = 0, k = 0;
  int planes = 0;
  const uint8_t* packed = nullptr;

  // Where planes are wanted: to `room` of m * ternary_packed_bytes(k, planes).
  const uint8_t* pack(uint8_t* room);
  // For packed rows [begin, end) of w, the four rows r, r + packed_rows, ... of each, at y[r], ...
  void multiply(const TernaryMatrix& w, size_t begin, size_t end, float* y, size_t ldy) const;
  // Packed rows to a chunk of a parallel loop.
  size_t grain() const { return row_grain(k * std::min(m, kRowsInCache)); }

  // Whether the whole product at once is faster than its parts: by tables.
  bool whole() const;
  // All rows of w, with the same bits; shared out here.
  void multiply(const TernaryMatrix& w, float* y, size_t ldy) const;

 private:
  size_t rows_for_tables() const;
  // False if the codes of w have no tables.
  bool multiply_tables(const TernaryMatrix& w, size_t rows, float* y, size_t ldy) const;

  static constexpr size_t kRowsInCache = 16;  // of x
};

}  // namespace mlxcpp::kernels

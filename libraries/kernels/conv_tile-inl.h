#pragma once

// The tile of conv_kernels.h, for one instruction set and one kind of product.

#include "kernels/conv_kernels.h"
#include "kernels/simd.h"

namespace mlxcpp::kernels {
namespace {

// As many sums as the registers hold, beside two vectors of the panel and one number of a row.
constexpr size_t kConvRows = kFloatLanes == 16 ? 14 : kFloatLanes == 8 ? 6 : 4;
constexpr size_t kConvColumns = 2 * kFloatLanes;
// With one vector of the panel.
constexpr size_t kConvNarrowRows = kFloatLanes == 16 ? 14 : kFloatLanes == 8 ? 12 : 8;

struct F32Product {
  static Vec spread(const float* p) { return set(*p); }
  static Vec add(Vec a, Vec b, Vec sum) { return fma(a, b, sum); }
};

// Wide panels are two vectors, narrow ones one. Rows of c are ldc floats apart.
template <class Product, size_t M, size_t Vectors>
void conv_tile(const float* const* rows, size_t taps, size_t k, const float* panel, float* c,
               size_t ldc, bool add) {
  constexpr size_t kColumns = Vectors * kFloatLanes;
  Vec s[M][Vectors];
#pragma GCC unroll 16
  for (size_t i = 0; i < M; ++i)
#pragma GCC unroll 2
    for (size_t v = 0; v < Vectors; ++v)
      s[i][v] = add ? load(c + i * ldc + v * kFloatLanes) : zero();
  for (size_t t = 0; t < taps; ++t, rows += M) {
    const float* row[M];
#pragma GCC unroll 16
    for (size_t i = 0; i < M; ++i) row[i] = rows[i];
    for (size_t j = 0; j < k; ++j, panel += kColumns) {
      Vec w[Vectors];
#pragma GCC unroll 2
      for (size_t v = 0; v < Vectors; ++v) w[v] = load(panel + v * kFloatLanes);
#pragma GCC unroll 16
      for (size_t i = 0; i < M; ++i) {
        const Vec x = Product::spread(row[i] + j);
#pragma GCC unroll 2
        for (size_t v = 0; v < Vectors; ++v) s[i][v] = Product::add(x, w[v], s[i][v]);
      }
    }
  }
#pragma GCC unroll 16
  for (size_t i = 0; i < M; ++i)
#pragma GCC unroll 2
    for (size_t v = 0; v < Vectors; ++v) store(c + i * ldc + v * kFloatLanes, s[i][v]);
}

// m rows, 1 to M.
template <class Product, size_t M = kConvRows, size_t Vectors = 2>
void conv_multiply(const float* const* rows, size_t m, size_t taps, size_t k, const float* panel,
                   float* c, size_t ldc, bool add) {
  if (m == M) return conv_tile<Product, M, Vectors>(rows, taps, k, panel, c, ldc, add);
  if constexpr (M > 1) conv_multiply<Product, M - 1, Vectors>(rows, m, taps, k, panel, c, ldc, add);
}

}  // namespace
}  // namespace mlxcpp::kernels

#pragma once

// The tile of conv_kernels.h, for one instruction set and one kind of product.

#include "kernels/conv_kernels.h"
#include "kernels/simd.h"

namespace mlxcpp::kernels {
namespace {

// As many sums as the registers hold, beside two vectors of the panel and one number of a row.
constexpr size_t kConvRows = kFloatLanes == 16 ? 14 : kFloatLanes == 8 ? 6 : 4;
constexpr size_t kConvColumns = 2 * kFloatLanes;

struct F32Product {
  static Vec spread(const float* p) { return set(*p); }
  static Vec add(Vec a, Vec b, Vec sum) { return fma(a, b, sum); }
};

template <class Product, size_t M>
void conv_tile(const float* const* rows, size_t taps, size_t k, const float* panel, float* c,
               bool add) {
  Vec s[M][2];
#pragma GCC unroll 16
  for (size_t i = 0; i < M; ++i) {
    s[i][0] = add ? load(c + i * kConvColumns) : zero();
    s[i][1] = add ? load(c + i * kConvColumns + kFloatLanes) : zero();
  }
  for (size_t t = 0; t < taps; ++t, rows += M) {
    const float* row[M];
#pragma GCC unroll 16
    for (size_t i = 0; i < M; ++i) row[i] = rows[i];
    for (size_t j = 0; j < k; ++j, panel += kConvColumns) {
      const Vec w0 = load(panel), w1 = load(panel + kFloatLanes);
#pragma GCC unroll 16
      for (size_t i = 0; i < M; ++i) {
        const Vec x = Product::spread(row[i] + j);
        s[i][0] = Product::add(x, w0, s[i][0]);
        s[i][1] = Product::add(x, w1, s[i][1]);
      }
    }
  }
#pragma GCC unroll 16
  for (size_t i = 0; i < M; ++i) {
    store(c + i * kConvColumns, s[i][0]);
    store(c + i * kConvColumns + kFloatLanes, s[i][1]);
  }
}

// m rows, 1 to M.
template <class Product, size_t M = kConvRows>
void conv_multiply(const float* const* rows, size_t m, size_t taps, size_t k, const float* panel,
                   float* c, bool add) {
  if (m == M) return conv_tile<Product, M>(rows, taps, k, panel, c, add);
  if constexpr (M > 1) conv_multiply<Product, M - 1>(rows, m, taps, k, panel, c, add);
}

}  // namespace
}  // namespace mlxcpp::kernels

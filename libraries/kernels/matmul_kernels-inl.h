#pragma once

// The loops of matmul_kernels.h, for the instruction set that the including file is compiled for.

#include "kernels/matmul_kernels.h"
#include "kernels/simd.h"

namespace mlxcpp::kernels {
namespace {

// As many sums as the registers hold, beside a vector of w and one of each row of x.
constexpr size_t kTileRows = kFloatLanes == 16 ? 6 : kFloatLanes == 8 ? 3 : 2;

// N columns of w by M rows of x.
template <size_t N, size_t M, class T>
void multiply_tile(const float* x, size_t ldx, const T* w, size_t ldw, size_t k, float* c,
                   size_t ldc, bool add) {
  Vec s[N][M];
#pragma GCC unroll 8
  for (size_t n = 0; n < N; ++n)
#pragma GCC unroll 8
    for (size_t m = 0; m < M; ++m) s[n][m] = zero();
  size_t i = 0;
  for (; i + kFloatLanes <= k; i += kFloatLanes) {
    Vec xs[M];
#pragma GCC unroll 8
    for (size_t m = 0; m < M; ++m) xs[m] = load(x + m * ldx + i);
#pragma GCC unroll 8
    for (size_t n = 0; n < N; ++n) {
      const Vec ws = load(w + n * ldw + i);
#pragma GCC unroll 8
      for (size_t m = 0; m < M; ++m) s[n][m] = fma(ws, xs[m], s[n][m]);
    }
  }
  if (i < k)
    for (size_t m = 0; m < M; ++m) {
      const Vec xs = load_n(x + m * ldx + i, k - i);
#pragma GCC unroll 8
      for (size_t n = 0; n < N; ++n) s[n][m] = fma(load_n(w + n * ldw + i, k - i), xs, s[n][m]);
    }
#pragma GCC unroll 8
  for (size_t m = 0; m < M; ++m) {
    float out[N];
    size_t n = 0;
    if constexpr (N % 4 == 0)
      for (; n < N; n += 4) sums_of_4(s[n][m], s[n + 1][m], s[n + 2][m], s[n + 3][m], out + n);
    else
      for (; n < N; ++n) out[n] = sum(s[n][m]);
    for (n = 0; n < N; ++n) c[m * ldc + n] = add ? c[m * ldc + n] + out[n] : out[n];
  }
}

// M rows of x, or the rest of them.
template <size_t N, class T, size_t M = kTileRows>
void multiply_rows(const float* x, size_t ldx, size_t m, const T* w, size_t ldw, size_t k, float* c,
                   size_t ldc, bool add) {
  for (; m >= M; m -= M, x += M * ldx, c += M * ldc)
    multiply_tile<N, M>(x, ldx, w, ldw, k, c, ldc, add);
  if constexpr (M > 1)
    if (m > 0) multiply_rows<N, T, M - 1>(x, ldx, m, w, ldw, k, c, ldc, add);
}

template <class T>
void multiply(const float* x, size_t ldx, size_t m, const void* w_, size_t ldw, size_t n, size_t k,
              float* c, size_t ldc, bool add) {
  const T* w = static_cast<const T*>(w_);
  size_t j = 0;
  // One row leaves registers for twice the columns, and sums enough to hide their latency.
  if (m == 1)
    for (; j + 2 * kTileColumns <= n; j += 2 * kTileColumns)
      multiply_tile<2 * kTileColumns, 1>(x, ldx, w + j * ldw, ldw, k, c + j, ldc, add);
  for (; j + kTileColumns <= n; j += kTileColumns)
    multiply_rows<kTileColumns>(x, ldx, m, w + j * ldw, ldw, k, c + j, ldc, add);
  for (; j < n; ++j) multiply_rows<1>(x, ldx, m, w + j * ldw, ldw, k, c + j, ldc, add);
}

template <class T>
void pack(const void* src_, ptrdiff_t row_stride, ptrdiff_t k_stride, size_t rows, size_t k,
          float* dst, size_t ld) {
  const T* src = static_cast<const T*>(src_);
  if (k_stride == 1) {
    for (size_t r = 0; r < rows; ++r, src += row_stride, dst += ld)
      for_vectors(k, [&](size_t i, size_t m) { store_up_to(dst + i, load_up_to(src + i, m), m); });
    return;
  }
  // Across the lines of memory: a vector of rows at a time, turned by way of a buffer unless they
  // are floats beside each other.
  for (size_t r = 0; r < rows; r += kFloatLanes) {
    const size_t n = rows - r < kFloatLanes ? rows - r : size_t{kFloatLanes};
    for (size_t i = 0; i < k; i += kFloatLanes) {
      const size_t m = k - i < kFloatLanes ? k - i : size_t{kFloatLanes};
      if constexpr (sizeof(T) == sizeof(float))
        if (row_stride == 1 && k_stride > 0 && n == kFloatLanes && m == kFloatLanes) {
          for (size_t q = 0; q < kFloatLanes; q += kTransposeSide)
            for (size_t j = 0; j < kFloatLanes; j += kTransposeSide)
              transpose_square(src + (r + q) + static_cast<ptrdiff_t>(i + j) * k_stride,
                               static_cast<size_t>(k_stride), dst + (r + q) * ld + i + j, ld);
          continue;
        }
      alignas(64) float block[kFloatLanes][kFloatLanes];
      for (size_t j = 0; j < m; ++j) {
        const T* from =
            src + static_cast<ptrdiff_t>(r) * row_stride + static_cast<ptrdiff_t>(i + j) * k_stride;
        if (row_stride == 1) {
          store(block[j], load_up_to(from, n));
        } else {
          for (size_t q = 0; q < n; ++q)
            store_n(block[j] + q, load_n(from + static_cast<ptrdiff_t>(q) * row_stride, 1), 1);
        }
      }
      if (n == kFloatLanes && m == kFloatLanes) {
        for (size_t q = 0; q < kFloatLanes; q += kTransposeSide)
          for (size_t j = 0; j < kFloatLanes; j += kTransposeSide)
            transpose_square(&block[j][q], kFloatLanes, dst + (r + q) * ld + i + j, ld);
        continue;
      }
      for (size_t q = 0; q < n; ++q)
        for (size_t j = 0; j < m; ++j) dst[(r + q) * ld + i + j] = block[j][q];
    }
  }
}

template <class T>
void finish(const float* c, const float* bias, void* y_, size_t n) {
  T* y = static_cast<T*>(y_);
  for_vectors(n, [&](size_t i, size_t m) {
    Vec v = load_up_to(c + i, m);
    if (bias != nullptr) v = v + load_up_to(bias + i, m);
    store_up_to(y + i, v, m);
  });
}

// The table that the including file exports.
#define MLXCPP_MATMUL_KERNELS                                   \
  {                                                             \
      kTileRows,                                                \
      {pack<float>, pack<BFloat16>, pack<Float16>},             \
      {multiply<float>, multiply<BFloat16>, multiply<Float16>}, \
      {finish<float>, finish<BFloat16>, finish<Float16>},       \
  }

}  // namespace
}  // namespace mlxcpp::kernels

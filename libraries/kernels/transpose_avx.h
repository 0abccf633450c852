#pragma once

// See simd.h: for the AVX2 and AVX-512 files.

#include <immintrin.h>

#include <cstddef>

namespace mlxcpp::kernels {
namespace {

constexpr size_t kTransposeSide = 8;

// to[i * to_ld + j] = from[j * from_ld + i] for a square of kTransposeSide floats.
inline void transpose_square(const float* from, size_t from_ld, float* to, size_t to_ld) {
  // Rows are halved and joined with the row four below, so that the shuffles within 128 bits that
  // follow meet all that belongs together.
  const auto halves = [&](size_t row, size_t column) {
    const __m128 low = _mm_loadu_ps(from + row * from_ld + column);
    const __m128 high = _mm_loadu_ps(from + (row + 4) * from_ld + column);
    return _mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1);
  };
  for (size_t column = 0; column < 8; column += 4) {
    const __m256 a = halves(0, column), b = halves(1, column), c = halves(2, column),
                 d = halves(3, column);
    const __m256 ab_low = _mm256_unpacklo_ps(a, b), ab_high = _mm256_unpackhi_ps(a, b);
    const __m256 cd_low = _mm256_unpacklo_ps(c, d), cd_high = _mm256_unpackhi_ps(c, d);
    float* out = to + column * to_ld;
    _mm256_storeu_ps(out, _mm256_shuffle_ps(ab_low, cd_low, 0x44));
    _mm256_storeu_ps(out + to_ld, _mm256_shuffle_ps(ab_low, cd_low, 0xee));
    _mm256_storeu_ps(out + 2 * to_ld, _mm256_shuffle_ps(ab_high, cd_high, 0x44));
    _mm256_storeu_ps(out + 3 * to_ld, _mm256_shuffle_ps(ab_high, cd_high, 0xee));
  }
}

}  // namespace
}  // namespace mlxcpp::kernels

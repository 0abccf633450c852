#pragma once

// The loop of ternary_kernels.h, for the instruction set that the including file is compiled for.

#include "kernels/simd.h"
#include "kernels/ternary_kernels.h"

namespace mlxcpp::kernels {
namespace {

// What the lowest two bits of each lane stand for: -1, 0, 1, and 2 for the code that is not used.
#if defined(__AVX512F__)
using Codes = __m512i;
inline Codes load_codes(const uint8_t* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
template <int Bits>
inline Vec values(Codes codes) {
  const __m512 table = _mm512_broadcast_f32x4(_mm_setr_ps(-1, 0, 1, 2));
  return {_mm512_permutevar_ps(table, _mm512_srli_epi32(codes, Bits))};
}
#elif defined(__AVX2__)
using Codes = __m256i;
inline Codes load_codes(const uint8_t* p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
template <int Bits>
inline Vec values(Codes codes) {
  const __m256 table = _mm256_setr_ps(-1, 0, 1, 2, -1, 0, 1, 2);
  return {_mm256_permutevar_ps(table, _mm256_srli_epi32(codes, Bits))};
}
#else
using Codes = const uint8_t*;
inline Codes load_codes(const uint8_t* p) { return p; }
template <int Bits>
inline Vec values(Codes codes) {
  return each_lane([=](size_t i) { return static_cast<float>((codes[i] >> Bits) & 3) - 1.0f; });
}
#endif

// Rows of x that are multiplied at once, four sums each: as the registers hold.
constexpr size_t kTernaryRows = kFloatLanes == 16 ? 5 : kFloatLanes == 8 ? 2 : 1;

template <size_t M>
void multiply_rows(const float* x, size_t ldx, const uint8_t* codes, size_t k, float scale,
                   float* y, size_t ldy, size_t distance) {
  Vec s[M][4];
#pragma GCC unroll 8
  for (size_t m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (size_t j = 0; j < 4; ++j) s[m][j] = zero();
  const auto add = [&](size_t i, size_t n, Codes c) {
    const Vec w[4] = {values<0>(c), values<2>(c), values<4>(c), values<6>(c)};
#pragma GCC unroll 8
    for (size_t m = 0; m < M; ++m) {
      const Vec xs = load_up_to(x + m * ldx + i, n);
#pragma GCC unroll 4
      for (size_t j = 0; j < 4; ++j) s[m][j] = fma(w[j], xs, s[m][j]);
    }
  };
  size_t i = 0;
  for (; i + kFloatLanes <= k; i += kFloatLanes) add(i, kFloatLanes, load_codes(codes + i));
  if (i < k) {
    uint8_t rest[kFloatLanes] = {};
    __builtin_memcpy(rest, codes + i, k - i);
    add(i, k - i, load_codes(rest));
  }
#pragma GCC unroll 8
  for (size_t m = 0; m < M; ++m) {
    float sums[4];
    sums_of_4(s[m][0], s[m][1], s[m][2], s[m][3], sums);
    for (size_t j = 0; j < 4; ++j) y[m * ldy + j * distance] = scale * sums[j];
  }
}

void multiply_ternary(const float* x, size_t ldx, size_t m, const uint8_t* codes, size_t k,
                      float scale, float* y, size_t ldy, size_t distance) {
  for (; m >= kTernaryRows; m -= kTernaryRows, x += kTernaryRows * ldx, y += kTernaryRows * ldy)
    multiply_rows<kTernaryRows>(x, ldx, codes, k, scale, y, ldy, distance);
  for (; m > 0; --m, x += ldx, y += ldy)
    multiply_rows<1>(x, ldx, codes, k, scale, y, ldy, distance);
}

}  // namespace
}  // namespace mlxcpp::kernels

#pragma once

#include <immintrin.h>

#include "kernels/quant_unpack.h"

// Scales that need more than a conversion, for AVX2 and AVX-512 alike.

namespace mlxcpp::kernels::quant {
namespace {

// q3_k's 16 scales of 6 bits, as signed bytes.
inline __m128i q3_k_scales(const uint8_t* p) {
  const __m128i fifteen = _mm_set1_epi8(15);
  const __m128i v = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  const __m128i low =
      _mm_unpacklo_epi64(_mm_and_si128(v, fifteen), _mm_and_si128(_mm_srli_epi16(v, 4), fifteen));
  uint32_t h;
  __builtin_memcpy(&h, p + 8, 4);
  const __m128i high =
      _mm_and_si128(_mm_set_epi32(static_cast<int>(h >> 2), static_cast<int>(h),
                                  static_cast<int>(h << 2), static_cast<int>(h << 4)),
                    _mm_set1_epi8(0x30));
  return _mm_sub_epi8(_mm_or_si128(low, high), _mm_set1_epi8(32));
}

// The 12 bytes that q4_k and q5_k share: eight scales of 6 bits, then eight minima.
inline __m128i k_scales_mins(const uint8_t* p) {
  uint32_t s[3];
  __builtin_memcpy(s, p, 12);
  return _mm_set_epi32(static_cast<int>((s[2] >> 4 & 0x0f0f0f0f) | (s[1] >> 2 & 0x30303030)),
                       static_cast<int>(s[1] & 0x3f3f3f3f),
                       static_cast<int>((s[2] & 0x0f0f0f0f) | (s[0] >> 2 & 0x30303030)),
                       static_cast<int>(s[0] & 0x3f3f3f3f));
}

// e4m3 numbers, NaN as e4m3_to_f32 has it, times 2^kExponent.
template <int kExponent>
inline __m256 e4m3(__m256i v) {
  const __m256i magnitude = _mm256_and_si256(v, _mm256_set1_epi32(0x7f));
  // Seven bits of an e4m3 number are those of an f32 that is 2^120 times smaller.
  const __m256 f =
      _mm256_mul_ps(_mm256_castsi256_ps(_mm256_slli_epi32(magnitude, 20)),
                    _mm256_castsi256_ps(_mm256_set1_epi32((127 + 120 + kExponent) << 23)));
  const __m256i nan = _mm256_and_si256(_mm256_cmpeq_epi32(magnitude, _mm256_set1_epi32(0x7f)),
                                       _mm256_set1_epi32(0x7fc00000));
  const __m256i sign = _mm256_slli_epi32(_mm256_xor_si256(v, magnitude), 24);
  return _mm256_or_ps(f, _mm256_castsi256_ps(_mm256_or_si256(nan, sign)));
}

}  // namespace
}  // namespace mlxcpp::kernels::quant

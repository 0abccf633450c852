#pragma once

#include <immintrin.h>

#include "kernels/quant_unpack.h"

// The packed scales of the K-quants, for AVX2 and AVX-512 alike.

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

}  // namespace
}  // namespace mlxcpp::kernels::quant

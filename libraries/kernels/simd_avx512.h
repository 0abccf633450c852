#pragma once

// See simd.h. Sixteen lanes.

#include <immintrin.h>

#include "kernels/transpose_avx.h"

namespace mlxcpp::kernels {
namespace {

constexpr size_t kFloatLanes = 16;

struct Vec {
  __m512 v;
};

inline __mmask16 first(size_t n) { return static_cast<__mmask16>((1u << n) - 1); }

inline Vec set(float x) { return {_mm512_set1_ps(x)}; }
inline Vec zero() { return {_mm512_setzero_ps()}; }

inline Vec widen_bf16(__m256i bits) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
}
inline __m256i narrow_bf16(Vec x) {
  const __m512i bits = _mm512_castps_si512(x.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  // Rounding would turn some NaNs into infinity: they keep their upper half, made quiet.
  const __mmask16 nan = _mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q);
  const __m512i out = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x00400000));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(out, 16));
}

inline Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline Vec load(const BFloat16* p) {
  return widen_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline Vec load(const Float16* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
// The first n lanes from memory, the others zero; reads nothing beyond.
inline Vec load_n(const float* p, size_t n) { return {_mm512_maskz_loadu_ps(first(n), p)}; }
inline Vec load_n(const BFloat16* p, size_t n) {
  return widen_bf16(_mm256_maskz_loadu_epi16(first(n), p));
}
inline Vec load_n(const Float16* p, size_t n) {
  return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(n), p))};
}

inline __m256i narrow_f16(Vec x) {
  return _mm512_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline void store(float* p, Vec x) { _mm512_storeu_ps(p, x.v); }
inline void store(BFloat16* p, Vec x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_bf16(x));
}
inline void store(Float16* p, Vec x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_f16(x));
}
inline void store_n(float* p, Vec x, size_t n) { _mm512_mask_storeu_ps(p, first(n), x.v); }
inline void store_n(BFloat16* p, Vec x, size_t n) {
  _mm256_mask_storeu_epi16(p, first(n), narrow_bf16(x));
}
inline void store_n(Float16* p, Vec x, size_t n) {
  _mm256_mask_storeu_epi16(p, first(n), narrow_f16(x));
}

inline Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }    // a * b + c
inline Vec fnma(Vec a, Vec b, Vec c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }  // c - a * b
inline Vec abs(Vec a) { return {_mm512_abs_ps(a.v)}; }
// b where either is NaN.
inline Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Vec min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }

// if_less where a < b (if_equal where a == b), otherwise `otherwise` (also for NaN).
inline Vec select_less(Vec a, Vec b, Vec if_less, Vec otherwise) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), otherwise.v, if_less.v)};
}
inline Vec select_equal(Vec a, Vec b, Vec if_equal, Vec otherwise) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ), otherwise.v, if_equal.v)};
}
// The magnitude of a (a >= 0) with the sign of s.
inline Vec with_sign(Vec a, Vec s) {
  return {_mm512_or_ps(a.v, _mm512_and_ps(s.v, _mm512_set1_ps(-0.0f)))};
}
// x in the first n lanes, `rest` in the others.
inline Vec keep_first(Vec x, size_t n, Vec rest) {
  return {_mm512_mask_blend_ps(first(n), rest.v, x.v)};
}
// The lane numbers below n where a == b, as bits.
inline uint32_t equal_mask(Vec a, Vec b, size_t n) {
  return _mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ) & first(n);
}

// x * 2^n, n a whole number from -300 to 300.
inline Vec scale_by_power_of_2(Vec x, Vec n) { return {_mm512_scalef_ps(x.v, n.v)}; }

// Lanes are folded by halves (i and i + 8, i + 4, ...), wherever sums of lanes are formed.
inline float sum(Vec x) {
  const __m256 a = _mm256_add_ps(_mm512_castps512_ps256(x.v), _mm512_extractf32x8_ps(x.v, 1));
  const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
// The four sums, to out[0..3].
inline void sums_of_4(Vec a, Vec b, Vec c, Vec d, float* out) {
  // Blocks of four lanes: i and i + 8 of a and b, of c and d; then i and i + 4 of all four.
  const auto add_halves = [](__m512 p, __m512 q) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(p, q, 0x44), _mm512_shuffle_f32x4(p, q, 0xee));
  };
  const __m512 ab = add_halves(a.v, b.v), cd = add_halves(c.v, d.v);
  const __m512 abcd =
      _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
  const __m512 pairs = _mm512_add_ps(abcd, _mm512_permute_ps(abcd, 0x4e));
  const __m512 sums = _mm512_add_ps(pairs, _mm512_permute_ps(pairs, 0xb1));
  _mm_storeu_ps(out, _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, sums)));
}
inline float max_lane(Vec x) {
  const __m256 a = _mm256_max_ps(_mm512_castps512_ps256(x.v), _mm512_extractf32x8_ps(x.v, 1));
  const __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}

}  // namespace
}  // namespace mlxcpp::kernels

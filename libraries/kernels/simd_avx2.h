#pragma once

// See simd.h. Eight lanes.

#include <immintrin.h>

#include "kernels/transpose_avx.h"

namespace mlxcpp::kernels {
namespace {

constexpr size_t kFloatLanes = 8;

struct Vec {
  __m256 v;
};

inline __m256i first(size_t n) {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lanes);
}

inline Vec set(float x) { return {_mm256_set1_ps(x)}; }
inline Vec zero() { return {_mm256_setzero_ps()}; }

inline Vec widen_bf16(__m128i bits) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16))};
}
inline __m128i narrow_bf16(Vec x) {
  const __m256i bits = _mm256_castps_si256(x.v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  // Rounding would turn some NaNs into infinity: they keep their upper half, made quiet.
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x00400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x.v, x.v, _CMP_UNORD_Q));
  const __m256i out = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
  return _mm_packus_epi32(_mm256_castsi256_si128(out), _mm256_extracti128_si256(out, 1));
}
inline __m128i narrow_f16(Vec x) {
  return _mm256_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

// Halves have no masked loads and stores: by way of a buffer.
inline __m128i load_halves_n(const void* p, size_t n) {
  alignas(16) uint16_t buffer[8] = {};
  __builtin_memcpy(buffer, p, 2 * n);
  return _mm_load_si128(reinterpret_cast<const __m128i*>(buffer));
}
inline void store_halves_n(void* p, __m128i x, size_t n) {
  alignas(16) uint16_t buffer[8];
  _mm_store_si128(reinterpret_cast<__m128i*>(buffer), x);
  __builtin_memcpy(p, buffer, 2 * n);
}

inline Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
inline Vec load(const BFloat16* p) {
  return widen_bf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline Vec load(const Float16* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
// The first n lanes from memory, the others zero; reads nothing beyond.
inline Vec load_n(const float* p, size_t n) { return {_mm256_maskload_ps(p, first(n))}; }
inline Vec load_n(const BFloat16* p, size_t n) { return widen_bf16(load_halves_n(p, n)); }
inline Vec load_n(const Float16* p, size_t n) { return {_mm256_cvtph_ps(load_halves_n(p, n))}; }

inline void store(float* p, Vec x) { _mm256_storeu_ps(p, x.v); }
inline void store(BFloat16* p, Vec x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow_bf16(x));
}
inline void store(Float16* p, Vec x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow_f16(x));
}
inline void store_n(float* p, Vec x, size_t n) { _mm256_maskstore_ps(p, first(n), x.v); }
inline void store_n(BFloat16* p, Vec x, size_t n) { store_halves_n(p, narrow_bf16(x), n); }
inline void store_n(Float16* p, Vec x, size_t n) { store_halves_n(p, narrow_f16(x), n); }

inline Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }    // a * b + c
inline Vec fnma(Vec a, Vec b, Vec c) { return {_mm256_fnmadd_ps(a.v, b.v, c.v)}; }  // c - a * b
inline Vec abs(Vec a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)}; }
// b where either is NaN.
inline Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
inline Vec min(Vec a, Vec b) { return {_mm256_min_ps(a.v, b.v)}; }

// if_less where a < b (if_equal where a == b), otherwise `otherwise` (also for NaN).
inline Vec select_less(Vec a, Vec b, Vec if_less, Vec otherwise) {
  return {_mm256_blendv_ps(otherwise.v, if_less.v, _mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ))};
}
inline Vec select_equal(Vec a, Vec b, Vec if_equal, Vec otherwise) {
  return {_mm256_blendv_ps(otherwise.v, if_equal.v, _mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ))};
}
// The magnitude of a (a >= 0) with the sign of s.
inline Vec with_sign(Vec a, Vec s) {
  return {_mm256_or_ps(a.v, _mm256_and_ps(s.v, _mm256_set1_ps(-0.0f)))};
}
// x in the first n lanes, `rest` in the others.
inline Vec keep_first(Vec x, size_t n, Vec rest) {
  return {_mm256_blendv_ps(rest.v, x.v, _mm256_castsi256_ps(first(n)))};
}
// The lane numbers below n where a == b, as bits.
inline uint32_t equal_mask(Vec a, Vec b, size_t n) {
  const auto bits = static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ)));
  return bits & ((1u << n) - 1);
}

// 2^n as a float, n a whole number from -126 to 127, by its exponent bits: adding 1.5 * 2^23 puts
// n into the lowest bits of the mantissa.
inline __m256 power_of_2(__m256 n) {
  const __m256i low = _mm256_castps_si256(_mm256_add_ps(n, _mm256_set1_ps(12582912.0f)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(low, _mm256_set1_epi32(127)), 23));
}
// x * 2^n, n a whole number from -250 to 250: in two steps, since 2^n itself may not be a float.
inline Vec scale_by_power_of_2(Vec x, Vec n) {
  const __m256 half = _mm256_floor_ps(_mm256_mul_ps(n.v, _mm256_set1_ps(0.5f)));
  const __m256 rest = _mm256_sub_ps(n.v, half);
  return {_mm256_mul_ps(_mm256_mul_ps(x.v, power_of_2(half)), power_of_2(rest))};
}

// Lanes are folded by halves (i and i + 4, i + 2, i + 1), wherever sums of lanes are formed.
inline float sum(Vec x) {
  const __m128 b = _mm_add_ps(_mm256_castps256_ps128(x.v), _mm256_extractf128_ps(x.v, 1));
  const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
// The four sums, to out[0..3].
inline void sums_of_4(Vec a, Vec b, Vec c, Vec d, float* out) {
  // i and i + 4 of a and b, of c and d; then i and i + 2 of all four, which leaves the halves of
  // a and c beside those of b and d.
  const auto add_halves = [](__m256 p, __m256 q) {
    return _mm256_add_ps(_mm256_permute2f128_ps(p, q, 0x20), _mm256_permute2f128_ps(p, q, 0x31));
  };
  const __m256 ab = add_halves(a.v, b.v), cd = add_halves(c.v, d.v);
  const __m256 pairs =
      _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
  const __m256 sums = _mm256_add_ps(pairs, _mm256_permute_ps(pairs, 0xb1));
  // Lanes 0 and 2 of each half: a, c; b, d.
  const __m128 ac = _mm256_castps256_ps128(sums), bd = _mm256_extractf128_ps(sums, 1);
  const __m128 mixed = _mm_shuffle_ps(ac, bd, 0x88);  // a c b d
  _mm_storeu_ps(out, _mm_permute_ps(mixed, 0xd8));
}
inline float max_lane(Vec x) {
  const __m128 b = _mm_max_ps(_mm256_castps256_ps128(x.v), _mm256_extractf128_ps(x.v, 1));
  const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}

}  // namespace
}  // namespace mlxcpp::kernels

#pragma once

// See simd.h. Plain C++ that compilers turn into the vectors of the platform's baseline (SSE2,
// NEON).

namespace mlxcpp::kernels {
namespace {

constexpr size_t kFloatLanes = 4;

struct Vec {
  float v[kFloatLanes];
};

template <class F>
inline Vec each_lane(F f) {
  Vec out;
  for (size_t i = 0; i < kFloatLanes; ++i) out.v[i] = f(i);
  return out;
}

inline float float_from_bits(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}
inline uint32_t bits_of(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits;
}

inline float widen(float x) { return x; }
inline float widen(BFloat16 x) { return float_from_bits(static_cast<uint32_t>(x.bits) << 16); }
inline float widen(Float16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000) << 16;
  const uint32_t rest = x.bits & 0x7fffu;
  if (rest >= 0x7c00) return float_from_bits(sign | 0x7f800000 | (rest & 0x3ff) << 13);  // inf, NaN
  // Exponent and mantissa where f32 has them, then the bias is corrected by a multiplication,
  // which also makes subnormal numbers right.
  return float_from_bits(bits_of(float_from_bits(rest << 13) * 0x1p112f) | sign);
}
inline void narrow(float x, float* out) { *out = x; }
inline void narrow(float x, BFloat16* out) {
  const uint32_t bits = bits_of(x);
  const uint32_t upper =
      x != x ? (bits | 0x00400000) >> 16 : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  out->bits = static_cast<uint16_t>(upper);
}
inline void narrow(float x, Float16* out) {
  const uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  uint32_t half;
  if (magnitude > 0x7f800000) {
    half = 0x7e00 | (magnitude >> 13 & 0x3ff);
  } else if (magnitude >= 0x477ff000) {  // rounds to 2^16 or more
    half = 0x7c00;
  } else if (magnitude < 0x38800000) {
    // Subnormal: adding 0.5 leaves the multiples of 2^-24, rounded to even, in the lowest bits.
    half = bits_of(float_from_bits(magnitude) + 0.5f) - 0x3f000000;
  } else {
    half = (magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13;
  }
  out->bits = static_cast<uint16_t>(sign | half);
}

inline Vec set(float x) {
  return each_lane([=](size_t) { return x; });
}
inline Vec zero() { return set(0); }

template <class T>
inline Vec load(const T* p) {
  return each_lane([=](size_t i) { return widen(p[i]); });
}
// The first n lanes from memory, the others zero; reads nothing beyond.
template <class T>
inline Vec load_n(const T* p, size_t n) {
  return each_lane([=](size_t i) { return i < n ? widen(p[i]) : 0; });
}
template <class T>
inline void store_n(T* p, const Vec& x, size_t n) {
  for (size_t i = 0; i < n; ++i) narrow(x.v[i], p + i);
}
template <class T>
inline void store(T* p, const Vec& x) {
  store_n(p, x, kFloatLanes);
}

inline Vec operator+(const Vec& a, const Vec& b) {
  return each_lane([&](size_t i) { return a.v[i] + b.v[i]; });
}
inline Vec operator-(const Vec& a, const Vec& b) {
  return each_lane([&](size_t i) { return a.v[i] - b.v[i]; });
}
inline Vec operator*(const Vec& a, const Vec& b) {
  return each_lane([&](size_t i) { return a.v[i] * b.v[i]; });
}
inline Vec operator/(const Vec& a, const Vec& b) {
  return each_lane([&](size_t i) { return a.v[i] / b.v[i]; });
}
// Not fused: the baseline of x86-64 has no such instruction.
inline Vec fma(const Vec& a, const Vec& b, const Vec& c) { return a * b + c; }   // a * b + c
inline Vec fnma(const Vec& a, const Vec& b, const Vec& c) { return c - a * b; }  // c - a * b
inline Vec abs(const Vec& a) {
  return each_lane([&](size_t i) { return float_from_bits(bits_of(a.v[i]) & 0x7fffffff); });
}
// b where either is NaN.
inline Vec max(const Vec& a, const Vec& b) {
  return each_lane([&](size_t i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline Vec min(const Vec& a, const Vec& b) {
  return each_lane([&](size_t i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}

// if_less where a < b (if_equal where a == b), otherwise `otherwise` (also for NaN).
inline Vec select_less(const Vec& a, const Vec& b, const Vec& if_less, const Vec& otherwise) {
  return each_lane([&](size_t i) { return a.v[i] < b.v[i] ? if_less.v[i] : otherwise.v[i]; });
}
inline Vec select_equal(const Vec& a, const Vec& b, const Vec& if_equal, const Vec& otherwise) {
  return each_lane([&](size_t i) { return a.v[i] == b.v[i] ? if_equal.v[i] : otherwise.v[i]; });
}
// The magnitude of a (a >= 0) with the sign of s.
inline Vec with_sign(const Vec& a, const Vec& s) {
  return each_lane(
      [&](size_t i) { return float_from_bits(bits_of(a.v[i]) | (bits_of(s.v[i]) & 0x80000000)); });
}
// x in the first n lanes, `rest` in the others.
inline Vec keep_first(const Vec& x, size_t n, const Vec& rest) {
  return each_lane([&](size_t i) { return i < n ? x.v[i] : rest.v[i]; });
}
// The lane numbers below n where a == b, as bits.
inline uint32_t equal_mask(const Vec& a, const Vec& b, size_t n) {
  uint32_t bits = 0;
  for (size_t i = 0; i < n; ++i) bits |= static_cast<uint32_t>(a.v[i] == b.v[i]) << i;
  return bits;
}

// x * 2^n, n a whole number from -250 to 250: in two steps, since 2^n itself may not be a float.
// Adding 1.5 * 2^23 puts a whole number into the lowest bits of the mantissa.
inline Vec scale_by_power_of_2(const Vec& x, const Vec& n) {
  return each_lane([&](size_t i) {
    const uint32_t whole = bits_of(n.v[i] + 12582912.0f) - bits_of(12582912.0f);
    const uint32_t half = static_cast<uint32_t>(static_cast<int32_t>(whole) >> 1);
    return x.v[i] * float_from_bits((half + 127) << 23) *
           float_from_bits((whole - half + 127) << 23);
  });
}

constexpr size_t kTransposeSide = 4;

// to[i * to_ld + j] = from[j * from_ld + i] for a square of kTransposeSide floats.
inline void transpose_square(const float* from, size_t from_ld, float* to, size_t to_ld) {
  for (size_t i = 0; i < kTransposeSide; ++i)
    for (size_t j = 0; j < kTransposeSide; ++j) to[i * to_ld + j] = from[j * from_ld + i];
}

// Lanes are folded by halves (i and i + 2, i + 1), wherever sums of lanes are formed.
inline float sum(const Vec& x) { return (x.v[0] + x.v[2]) + (x.v[1] + x.v[3]); }
// The four sums, to out[0..3].
inline void sums_of_4(const Vec& a, const Vec& b, const Vec& c, const Vec& d, float* out) {
  out[0] = sum(a);
  out[1] = sum(b);
  out[2] = sum(c);
  out[3] = sum(d);
}
inline float max_lane(const Vec& x) {
  const float a = x.v[0] > x.v[2] ? x.v[0] : x.v[2], b = x.v[1] > x.v[3] ? x.v[1] : x.v[3];
  return a > b ? a : b;
}

}  // namespace
}  // namespace mlxcpp::kernels

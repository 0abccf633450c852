#pragma once

// Functions of f32 vectors, within a few units in the last place (tests/kernels/rows_test.cpp
// measures them). The polynomials are Chebyshev fits on the intervals stated.

#include "kernels/simd.h"

namespace mlxcpp::kernels {
namespace {

// c[0] + c[1] x + c[2] x^2 + ...
template <size_t N>
inline Vec polynomial(Vec x, const float (&c)[N]) {
  Vec y = set(c[N - 1]);
  for (size_t i = N - 1; i-- > 0;) y = fma(y, x, set(c[i]));
  return y;
}

// To the nearest whole number, for |x| < 2^22.
inline Vec round_to_whole(Vec x) {
  const Vec big = set(12582912.0f);  // 1.5 * 2^23: beyond it floats are whole
  return (x + big) - big;
}

inline Vec exp(Vec x) {
  static constexpr float kP[] = {0.5f, 0.1666657338f, 0.04166655011f, 0.008363773874f,
                                 0.001392692661f};
  x = min(set(89.0f), max(set(-104.0f), x));  // beyond: infinity, zero; NaN stays
  const Vec n = round_to_whole(x * set(1.44269504f));
  // x = n ln 2 + r, |r| <= ln 2 / 2; ln 2 in two parts, the first short enough for exact products.
  Vec r = fnma(n, set(0.693359375f), x);
  r = fnma(n, set(-2.12194440e-4f), r);
  const Vec y = fma(polynomial(r, kP), r * r, r) + set(1.0f);
  return scale_by_power_of_2(y, n);
}

inline Vec tanh(Vec x) {
  static constexpr float kP[] = {-0.3333332843f, 0.1333271885f, -0.05384326318f, 0.02096132911f,
                                 -0.006045165097f};
  const Vec a = abs(x), u = x * x;
  const Vec small = fma(polynomial(u, kP) * u, x, x);
  const Vec large = set(1.0f) - set(2.0f) / (exp(a + a) + set(1.0f));
  return select_less(a, set(0.625f), small, with_sign(large, x));
}

inline Vec sigmoid(Vec x) { return set(1.0f) / (set(1.0f) + exp(-x)); }

// The normal distribution: the probability of a value below x. By way of
// Phi(-t) = exp(-t^2 / 2) u P(u) with u = 1 / (1 + 0.2316419 t), t in [0, 14] (the form of
// Abramowitz and Stegun 26.2.17, with more terms).
inline Vec normal_cdf(Vec x) {
  static constexpr float kP[] = {0.09238264767f,  0.09302636546f, 0.08177487351f, 0.1077292134f,
                                 -0.03867471993f, 0.275405436f,   -0.309358422f,  0.3354362981f,
                                 -0.167736786f,   0.03001509393f};
  const Vec t = min(set(14.5f), abs(x));
  const Vec u = set(1.0f) / fma(set(0.2316419f), t, set(1.0f));
  // t^2 in two parts: the error of one would be multiplied by t^2.
  const Vec square = t * t, rest = fma(t, t, -square);
  const Vec density = exp(set(-0.5f) * square) * fma(set(-0.5f), rest, set(1.0f));
  const Vec tail = density * (u * polynomial(u, kP));
  return select_less(x, zero(), tail, set(1.0f) - tail);
}

// cosine and sine of x, |x| < 2^22 where the instruction set has a fused multiply-add; beyond, and
// without it, lane by lane.
inline void cos_sin(Vec x, Vec* cosine, Vec* sine) {
#if defined(__FMA__)
  static constexpr float kSin[] = {-0.1666666666f, 0.008333331785f, -0.0001984003887f,
                                   2.724378141e-6f};
  static constexpr float kCos[] = {0.04166666666f, -0.00138888876f, 2.480056043e-5f,
                                   -2.729583083e-7f};
  if (max_lane(abs(x)) < 4e6f) {
    // x = n pi/2 + r, |r| <= pi/4; pi/2 in three parts. Each product is exact inside the fma.
    const Vec n = round_to_whole(x * set(0.636619772f));
    Vec r = fnma(n, set(1.57079637f), x);
    r = fnma(n, set(-4.37113883e-8f), r);
    r = fnma(n, set(-1.71512496e-15f), r);
    const Vec u = r * r;
    const Vec sr = fma(polynomial(u, kSin) * u, r, r);
    const Vec cr = fma(polynomial(u, kCos), u * u, fma(set(-0.5f), u, set(1.0f)));
    // n mod 4 in {-2, ..., 2} says how the quarter turns swap and negate them.
    const Vec quarter = n - set(4.0f) * round_to_whole(set(0.25f) * n);
    const Vec even = abs(abs(quarter) - set(1.0f));  // 1, or 0 for odd ones
    const Vec half = set(0.5f), three_halves = set(1.5f);
    const Vec sv = select_less(even, half, cr, sr), cv = select_less(even, half, sr, cr);
    // The sine is negative for -2, -1 and 2, the cosine for -2, 1 and 2.
    *sine = select_less(quarter, -half, -sv, select_less(three_halves, quarter, -sv, sv));
    *cosine = select_less(quarter, -three_halves, -cv, select_less(half, quarter, -cv, cv));
    return;
  }
#endif
  alignas(64) float lanes[kFloatLanes], c[kFloatLanes], s[kFloatLanes];
  store(lanes, x);
  for (size_t i = 0; i < kFloatLanes; ++i) {
    c[i] = __builtin_cosf(lanes[i]);
    s[i] = __builtin_sinf(lanes[i]);
  }
  *cosine = load(c);
  *sine = load(s);
}

}  // namespace
}  // namespace mlxcpp::kernels

#pragma once

// Stockham's self-sorting transform (Van Loan, Computational Frameworks for the FFT, 1992), radices
// 2 to 5, in GCC's and clang's vector types: a lane for each signal.

#include "kernels/spectrum_kernels.h"

// How vectors are passed differs between instruction sets; here all is inlined.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace mlxcpp::kernels {
namespace {

using Lanes = float __attribute__((vector_size(4 * kSpectrumLanes)));

inline Lanes load_lanes(const float* p) {
  Lanes v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
inline void store_lanes(float* p, const Lanes& v) { __builtin_memcpy(p, &v, sizeof v); }

struct Complex {
  Lanes re, im;
};
inline Complex operator+(const Complex& a, const Complex& b) { return {a.re + b.re, a.im + b.im}; }
inline Complex operator-(const Complex& a, const Complex& b) { return {a.re - b.re, a.im - b.im}; }
inline Complex times_minus_i(const Complex& a) { return {a.im, -a.re}; }

// The transform of R numbers, in place.
template <int R>
inline void small(Complex (&a)[R]) {
  if constexpr (R == 2) {
    const Complex s = a[0] + a[1], d = a[0] - a[1];
    a[0] = s;
    a[1] = d;
  } else if constexpr (R == 4) {
    const Complex s = a[0] + a[2], d = a[0] - a[2];
    const Complex t = a[1] + a[3], e = times_minus_i(a[1] - a[3]);
    a[0] = s + t;
    a[1] = d + e;
    a[2] = s - t;
    a[3] = d - e;
  } else {
    // By the roots of unity themselves: exp(-2 pi i j k / R).
    constexpr float kCosine3[] = {1, -0.5f, -0.5f};
    constexpr float kSine3[] = {0, 0.866025403784f, -0.866025403784f};
    constexpr float kCosine5[] = {1, 0.309016994375f, -0.809016994375f, -0.809016994375f,
                                  0.309016994375f};
    constexpr float kSine5[] = {0, 0.951056516295f, 0.587785252292f, -0.587785252292f,
                                -0.951056516295f};
    const float* cosine = R == 3 ? kCosine3 : kCosine5;
    const float* sine = R == 3 ? kSine3 : kSine5;
    Complex b[R];
    for (int j = 0; j < R; ++j) {
      b[j] = a[0];
      for (int k = 1; k < R; ++k) {
        const float c = cosine[j * k % R], s = sine[j * k % R];
        b[j].re += a[k].re * c + a[k].im * s;
        b[j].im += a[k].im * c - a[k].re * s;
      }
    }
    for (int j = 0; j < R; ++j) a[j] = b[j];
  }
}

template <int R>
void stage(const SpectrumTables& t, int n, int s, const float* xr, const float* xi, float* yr,
           float* yi) {
  const int m = n / R;
  const int step = t.n / n;  // between powers of this stage's root in the table
  for (int p = 0; p < m; ++p)
    for (int q = 0; q < s; ++q) {
      Complex a[R];
      for (int k = 0; k < R; ++k) {
        const size_t at = kSpectrumLanes * (q + static_cast<size_t>(s) * (p + m * k));
        a[k] = {load_lanes(xr + at), load_lanes(xi + at)};
      }
      small<R>(a);
      for (int j = 0; j < R; ++j) {
        const size_t at = kSpectrumLanes * (q + static_cast<size_t>(s) * (R * p + j));
        const float c = t.cosine[step * p * j], w = t.sine[step * p * j];
        store_lanes(yr + at, a[j].re * c + a[j].im * w);
        store_lanes(yi + at, a[j].im * c - a[j].re * w);
      }
    }
}

void transform(const SpectrumTables& t, float* re, float* im, float* work) {
  const size_t size = kSpectrumLanes * static_cast<size_t>(t.n);
  float *xr = re, *xi = im, *yr = work, *yi = work + size;
  int n = t.n, s = 1;
  for (int i = 0; i < t.stages; ++i) {
    const int r = t.factors[i];
    if (r == 2) stage<2>(t, n, s, xr, xi, yr, yi);
    if (r == 3) stage<3>(t, n, s, xr, xi, yr, yi);
    if (r == 4) stage<4>(t, n, s, xr, xi, yr, yi);
    if (r == 5) stage<5>(t, n, s, xr, xi, yr, yi);
    float* swap = xr;
    xr = yr;
    yr = swap;
    swap = xi;
    xi = yi;
    yi = swap;
    n /= r;
    s *= r;
  }
  if (xr != re) {
    __builtin_memcpy(re, xr, size * sizeof(float));
    __builtin_memcpy(im, xi, size * sizeof(float));
  }
}

void power(const float* re, const float* im, size_t bins, bool root, float* out) {
  for (size_t i = 0; i < bins * kSpectrumLanes; i += kSpectrumLanes) {
    const Lanes a = load_lanes(re + i), b = load_lanes(im + i);
    Lanes v = a * a + b * b;
    if (root)
      for (size_t l = 0; l < kSpectrumLanes; ++l) v[l] = __builtin_sqrtf(v[l]);
    store_lanes(out + i, v);
  }
}

void filter(const float* spectrum, const float* weights, size_t n, float* out) {
  Lanes sum{};
  for (size_t i = 0; i < n; ++i) sum += load_lanes(spectrum + kSpectrumLanes * i) * weights[i];
  store_lanes(out, sum);
}

#define MLXCPP_SPECTRUM_KERNELS {transform, power, filter}

}  // namespace
}  // namespace mlxcpp::kernels

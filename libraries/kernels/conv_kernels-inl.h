#pragma once

// The loops of conv_kernels.h, for the instruction set that the including file is compiled for.

#include "kernels/conv_tile-inl.h"
#include "kernels/math-inl.h"

namespace mlxcpp::kernels {
namespace {

template <class T>
void conv_depthwise(const void* const* rows, size_t taps, const float* weights, size_t n,
                    float* y) {
  for_vectors(n, [&](size_t i, size_t m) {
    Vec s = zero();
    for (size_t t = 0; t < taps; ++t)
      s = fma(load_up_to(static_cast<const T*>(rows[t]) + i, m), load_up_to(weights + t * n + i, m),
              s);
    store_up_to(y + i, s, m);
  });
}

template <class T>
void conv_finish(const float* c, const float* bias, const void* residual_, void* y_, size_t n) {
  const T* residual = static_cast<const T*>(residual_);
  T* y = static_cast<T*>(y_);
  for_vectors(n, [&](size_t i, size_t m) {
    Vec v = load_up_to(c + i, m);
    if (bias != nullptr) v = v + load_up_to(bias + i, m);
    if (residual != nullptr) v = v + load_up_to(residual + i, m);
    store_up_to(y + i, v, m);
  });
}

// B^T d B of the paper, d being 6x6: first down the columns, then along the rows.
inline void winograd_input_line(const Vec (&d)[6], Vec (&out)[6]) {
  const Vec four = set(4.0f), two = set(2.0f);
  const Vec a = fnma(four, d[2], d[4]);  // d4 - 4 d2
  const Vec b = fnma(four, d[1], d[3]);  // d3 - 4 d1
  const Vec e = d[4] - d[2], f = d[3] - d[1];
  out[0] = fma(four, d[0], fnma(set(5.0f), d[2], d[4]));
  out[1] = a + b;
  out[2] = a - b;
  out[3] = fma(two, f, e);
  out[4] = fnma(two, f, e);
  out[5] = fma(four, d[1], fnma(set(5.0f), d[3], d[5]));
}

template <class T>
void conv_winograd_input(const void* const* rows, size_t n, float* v, size_t stride) {
  for_vectors(n, [&](size_t i, size_t m) {
    Vec half[6][6];  // [column][transformed row]
    for (size_t x = 0; x < 6; ++x) {
      Vec d[6];
      for (size_t y = 0; y < 6; ++y)
        d[y] = load_up_to(static_cast<const T*>(rows[6 * y + x]) + i, m);
      winograd_input_line(d, half[x]);
    }
    for (size_t y = 0; y < 6; ++y) {
      const Vec d[6] = {half[0][y], half[1][y], half[2][y], half[3][y], half[4][y], half[5][y]};
      Vec out[6];
      winograd_input_line(d, out);
      for (size_t x = 0; x < 6; ++x) store_up_to(v + (6 * y + x) * stride + i, out[x], m);
    }
  });
}

// G g G^T.
inline void winograd_weight_line(Vec g0, Vec g1, Vec g2, Vec (&out)[6]) {
  const Vec outer = g0 + g2;
  const Vec wide = fma(set(1.0f / 6.0f), g2, set(1.0f / 24.0f) * g0);
  out[0] = set(0.25f) * g0;
  out[1] = set(-1.0f / 6.0f) * (outer + g1);
  out[2] = set(-1.0f / 6.0f) * (outer - g1);
  out[3] = fma(set(1.0f / 12.0f), g1, wide);
  out[4] = fnma(set(1.0f / 12.0f), g1, wide);
  out[5] = g2;
}

void conv_winograd_weights(const float* g, size_t g_stride, size_t n, float* u, size_t u_stride) {
  for_vectors(n, [&](size_t i, size_t m) {
    Vec half[3][6];
    for (size_t x = 0; x < 3; ++x)
      winograd_weight_line(load_up_to(g + x * g_stride + i, m),
                           load_up_to(g + (3 + x) * g_stride + i, m),
                           load_up_to(g + (6 + x) * g_stride + i, m), half[x]);
    for (size_t y = 0; y < 6; ++y) {
      Vec out[6];
      winograd_weight_line(half[0][y], half[1][y], half[2][y], out);
      for (size_t x = 0; x < 6; ++x) store_up_to(u + (6 * y + x) * u_stride + i, out[x], m);
    }
  });
}

// A^T m A.
inline void winograd_output_line(const Vec (&m)[6], Vec (&out)[4]) {
  const Vec a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], d = m[3] - m[4];
  out[0] = m[0] + a + c;
  out[1] = fma(set(2.0f), d, b);
  out[2] = fma(set(4.0f), c, a);
  out[3] = fma(set(8.0f), d, b) + m[5];
}

void conv_winograd_output(const float* m, size_t stride, size_t n, float* y) {
  for_vectors(n, [&](size_t i, size_t count) {
    Vec half[6][4];
    for (size_t x = 0; x < 6; ++x) {
      Vec line[6];
      for (size_t r = 0; r < 6; ++r) line[r] = load_up_to(m + (6 * r + x) * stride + i, count);
      winograd_output_line(line, half[x]);
    }
    for (size_t r = 0; r < 4; ++r) {
      const Vec line[6] = {half[0][r], half[1][r], half[2][r], half[3][r], half[4][r], half[5][r]};
      Vec out[4];
      winograd_output_line(line, out);
      for (size_t x = 0; x < 4; ++x) store_up_to(y + (4 * r + x) * n + i, out[x], count);
    }
  });
}

template <class T>
void conv_channel_sums(const void* x_, size_t pixels, size_t n, float* sums) {
  const T* x = static_cast<const T*>(x_);
  for_vectors(n, [&](size_t i, size_t m) {
    Vec s = zero();
    for (size_t p = 0; p < pixels; ++p) s = s + load_up_to(x + p * n + i, m);
    store_up_to(sums + i, s, m);
  });
}

template <class T>
void conv_channel_squares(const void* x_, size_t pixels, size_t n, const float* mean, float* sums) {
  const T* x = static_cast<const T*>(x_);
  for_vectors(n, [&](size_t i, size_t m) {
    Vec s = zero();
    const Vec middle = load_up_to(mean + i, m);
    for (size_t p = 0; p < pixels; ++p) {
      const Vec d = load_up_to(x + p * n + i, m) - middle;
      s = fma(d, d, s);
    }
    store_up_to(sums + i, s, m);
  });
}

template <class T>
void conv_normalise(const void* x_, size_t pixels, size_t n, const float* mean, const float* scale,
                    const float* shift, bool silu, void* y_) {
  const T* x = static_cast<const T*>(x_);
  T* y = static_cast<T*>(y_);
  for (size_t p = 0; p < pixels; ++p, x += n, y += n)
    for_vectors(n, [&](size_t i, size_t m) {
      Vec v = fma(load_up_to(x + i, m) - load_up_to(mean + i, m), load_up_to(scale + i, m),
                  load_up_to(shift + i, m));
      if (silu) v = v / (set(1.0f) + exp(-v));
      store_up_to(y + i, v, m);
    });
}

// f(offset of a pixel from the window's first) for each pixel of a window.
template <class F>
inline void each_pixel(const PoolRow& p, F f) {
  for (size_t y = 0; y < p.size[0]; ++y)
    for (size_t x = 0; x < p.size[1]; ++x) f(y * p.row + x * p.channels);
}

// Whether whole vectors at window w stay within the rows of x and of y. They then reach into the
// windows that come after it: of y those are written later.
inline bool room_for_whole(const PoolRow& p, size_t w) {
  const size_t most = (p.channels + kFloatLanes - 1) / kFloatLanes * kFloatLanes;
  return (w * p.step + p.size[1] - 1) * p.channels + most <= p.row &&
         w * p.channels + most <= p.windows * p.channels;
}

// f(window, n -> lanes to read and write) for each window.
template <class F>
inline void each_window(const PoolRow& p, F f) {
  size_t w = 0;
  for (; w < p.windows && room_for_whole(p, w); ++w)
    f(w, [](size_t) { return size_t{kFloatLanes}; });
  for (; w < p.windows; ++w) f(w, [](size_t n) { return n; });
}

void conv_max_pool(const PoolRow& p, const float* x_, float* y_) {
  each_window(p, [&](size_t w, auto lanes) {
    const float* x = x_ + w * p.step * p.channels;
    float* y = y_ + w * p.channels;
    for_vectors(p.channels, [&](size_t i, size_t n) {
      const size_t m = lanes(n);
      Vec top = load_up_to(x + i, m);
      each_pixel(p, [&](size_t at) {
        const Vec v = load_up_to(x + at + i, m);
        top = select_equal(v, v, max(v, top), v);  // NaN stays
      });
      store_up_to(y + i, top, m);
    });
  });
}

void conv_max_pool_grad(const PoolRow& p, const float* x_, const float* y_, const float* dy_,
                        float* dx_) {
  each_window(p, [&](size_t w, auto lanes) {
    const size_t from = w * p.step * p.channels, to = w * p.channels;
    const float *x = x_ + from, *y = y_ + to, *dy = dy_ + to;
    float* dx = dx_ + from;
    for_vectors(p.channels, [&](size_t i, size_t n) {
      const size_t m = lanes(n);
      const Vec top = load_up_to(y + i, m), one = set(1.0f);
      Vec count = zero();
      each_pixel(p, [&](size_t at) {
        count = count + select_equal(load_up_to(x + at + i, m), top, one, zero());
      });
      // The windows beside this one are not to be touched.
      const Vec share = keep_first(load_up_to(dy + i, m) / count, n, zero());
      each_pixel(p, [&](size_t at) {
        const Vec d = select_equal(load_up_to(x + at + i, m), top, share, zero());
        store_up_to(dx + at + i, load_up_to(dx + at + i, m) + d, m);
      });
    });
  });
}

void conv_mean_pool(const PoolRow& p, const float* x, float* y) {
  const Vec part = set(1.0f / static_cast<float>(p.size[0] * p.size[1]));
  for (size_t w = 0; w < p.windows; ++w, x += p.step * p.channels, y += p.channels)
    for_vectors(p.channels, [&](size_t i, size_t m) {
      Vec s = zero();
      each_pixel(p, [&](size_t at) { s = s + load_up_to(x + at + i, m); });
      store_up_to(y + i, s * part, m);
    });
}

void conv_mean_pool_grad(const PoolRow& p, const float* dy, float* dx) {
  const Vec part = set(1.0f / static_cast<float>(p.size[0] * p.size[1]));
  for (size_t w = 0; w < p.windows; ++w, dx += p.step * p.channels, dy += p.channels)
    for_vectors(p.channels, [&](size_t i, size_t m) {
      const Vec d = load_up_to(dy + i, m) * part;
      each_pixel(p,
                 [&](size_t at) { store_up_to(dx + at + i, load_up_to(dx + at + i, m) + d, m); });
    });
}

// The table that the including file exports.
#define MLXCPP_CONV_KERNELS                                                                      \
  {                                                                                              \
      kConvRows,                                                                                 \
      kConvColumns,                                                                              \
      kConvNarrowRows,                                                                           \
      conv_multiply<F32Product>,                                                                 \
      conv_multiply<F32Product, kConvNarrowRows, 1>,                                             \
      nullptr,                                                                                   \
      {conv_depthwise<float>, conv_depthwise<BFloat16>, conv_depthwise<Float16>},                \
      {conv_finish<float>, conv_finish<BFloat16>, conv_finish<Float16>},                         \
      {conv_winograd_input<float>, conv_winograd_input<BFloat16>, conv_winograd_input<Float16>}, \
      conv_winograd_weights,                                                                     \
      conv_winograd_output,                                                                      \
      {conv_channel_sums<float>, conv_channel_sums<BFloat16>, conv_channel_sums<Float16>},       \
      {conv_channel_squares<float>, conv_channel_squares<BFloat16>,                              \
       conv_channel_squares<Float16>},                                                           \
      {conv_normalise<float>, conv_normalise<BFloat16>, conv_normalise<Float16>},                \
      conv_max_pool,                                                                             \
      conv_max_pool_grad,                                                                        \
      conv_mean_pool,                                                                            \
      conv_mean_pool_grad,                                                                       \
  }

}  // namespace
}  // namespace mlxcpp::kernels

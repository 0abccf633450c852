#pragma once

// The loops of row_kernels.h, for the instruction set that the including file is compiled for.

#include "kernels/math-inl.h"
#include "kernels/row_kernels.h"

namespace mlxcpp::kernels {
namespace {

// NaN stays.
inline Vec positive_part(Vec v) { return max(zero(), v); }

template <Activation A, class T>
void activation_row(const void* x_, const void* up_, void* y_, size_t n) {
  const T* x = static_cast<const T*>(x_);
  const T* up = static_cast<const T*>(up_);
  T* y = static_cast<T*>(y_);
  for_vectors(n, [&](size_t i, size_t m) {
    const Vec v = load_up_to(x + i, m);
    Vec r;
    if constexpr (A == Activation::silu || A == Activation::swiglu) {
      r = v / (set(1.0f) + exp(-v));
    } else if constexpr (A == Activation::gelu || A == Activation::geglu) {
      r = v * normal_cdf(v);
    } else if constexpr (A == Activation::tanh) {
      r = tanh(v);
    } else if constexpr (A == Activation::sigmoid) {
      r = sigmoid(v);
    } else if constexpr (A == Activation::relu) {
      r = max(zero(), v);  // NaN stays
    } else if constexpr (A == Activation::relu2 || A == Activation::relu2_glu) {
      r = positive_part(v) * positive_part(v);
    } else {
      // x/2 (1 + tanh(s)) = x sigmoid(2 s), s = sqrt(2/pi) (x + 0.044715 x^3)
      const Vec two_s = v * fma(set(0.0713548162726f), v * v, set(1.59576912160573f));
      r = v / (set(1.0f) + exp(-two_s));
    }
    if constexpr (is_gated(A)) r = r * load_up_to(up + i, m);
    store_up_to(y + i, r, m);
  });
}

// The sum of f(i, m) over the vectors of a row, in four interleaved sums.
template <class F>
inline float sum_vectors(size_t n, F f) {
  Vec s[4] = {zero(), zero(), zero(), zero()};
  size_t i = 0;
  for (; i + 4 * kFloatLanes <= n; i += 4 * kFloatLanes)
    for (size_t j = 0; j < 4; ++j) s[j] = f(i + j * kFloatLanes, size_t{kFloatLanes}, s[j]);
  for (; i + kFloatLanes <= n; i += kFloatLanes) s[0] = f(i, size_t{kFloatLanes}, s[0]);
  if (i < n) s[1] = f(i, n - i, s[1]);
  return sum((s[0] + s[1]) + (s[2] + s[3]));
}

inline float reciprocal_root(float x) { return 1.0f / __builtin_sqrtf(x); }

template <class T>
void rms_norm_row(const void* x_, const void* weight_, void* y_, size_t n, float eps) {
  const T* x = static_cast<const T*>(x_);
  const T* weight = static_cast<const T*>(weight_);
  T* y = static_cast<T*>(y_);
  const float squares = sum_vectors(n, [&](size_t i, size_t m, Vec s) {
    const Vec v = load_up_to(x + i, m);
    return fma(v, v, s);
  });
  const Vec scale = set(reciprocal_root(squares / static_cast<float>(n) + eps));
  for_vectors(n, [&](size_t i, size_t m) {
    const Vec v = load_up_to(x + i, m), scaled = v * scale;
    if (weight == nullptr) return store_up_to(y + i, scaled, m);
    // What the first product lost goes into the second: all that follows in a layer stands on these
    // numbers.
    const Vec w = load_up_to(weight + i, m), lost = fma(v, scale, -scaled);
    store_up_to(y + i, fma(scaled, w, lost * w), m);
  });
}

template <class T>
void layer_norm_row(const void* x_, const void* weight_, const void* bias_, void* y_, size_t n,
                    float eps) {
  const T* x = static_cast<const T*>(x_);
  const T* weight = static_cast<const T*>(weight_);
  const T* bias = static_cast<const T*>(bias_);
  T* y = static_cast<T*>(y_);
  const float total =
      sum_vectors(n, [&](size_t i, size_t m, Vec s) { return s + load_up_to(x + i, m); });
  const Vec mean = set(total / static_cast<float>(n));
  const float squares = sum_vectors(n, [&](size_t i, size_t m, Vec s) {
    const Vec d = keep_first(load_up_to(x + i, m) - mean, m, zero());
    return fma(d, d, s);
  });
  const Vec scale = set(reciprocal_root(squares / static_cast<float>(n) + eps));
  for_vectors(n, [&](size_t i, size_t m) {
    Vec v = (load_up_to(x + i, m) - mean) * scale;
    if (weight != nullptr) v = v * load_up_to(weight + i, m);
    if (bias != nullptr) v = v + load_up_to(bias + i, m);
    store_up_to(y + i, v, m);
  });
}

void rope_table_row(const float* inv_freq, float position, float scale, float* cosine, float* sine,
                    size_t n) {
  for_vectors(n, [&](size_t i, size_t m) {
    Vec c, s;
    cos_sin(set(position) * load_up_to(inv_freq + i, m), &c, &s);
    store_up_to(cosine + i, c * set(scale), m);
    store_up_to(sine + i, s * set(scale), m);
  });
}

template <class T>
void rotate_halves_row(const void* x1_, const void* x2_, const float* cosine, const float* sine,
                       void* y1_, void* y2_, size_t n) {
  const T *x1 = static_cast<const T*>(x1_), *x2 = static_cast<const T*>(x2_);
  T *y1 = static_cast<T*>(y1_), *y2 = static_cast<T*>(y2_);
  for_vectors(n, [&](size_t i, size_t m) {
    const Vec a = load_up_to(x1 + i, m), b = load_up_to(x2 + i, m);
    const Vec c = load_up_to(cosine + i, m), s = load_up_to(sine + i, m);
    store_up_to(y1 + i, a * c - b * s, m);
    store_up_to(y2 + i, a * s + b * c, m);
  });
}

template <class T>
void rotate_pairs_row(const void* x_, const float* cosine, const float* sine, void* y_, size_t n) {
  const T* x = static_cast<const T*>(x_);
  T* y = static_cast<T*>(y_);
  // Through buffers in which the two of a pair are apart.
  alignas(64) float wide[2 * kFloatLanes], even[kFloatLanes], odd[kFloatLanes];
  for_vectors(n, [&](size_t i, size_t m) {
    const size_t low = m < kFloatLanes / 2 ? 2 * m : size_t{kFloatLanes}, high = 2 * m - low;
    store(wide, load_up_to(x + 2 * i, low));
    if (high > 0) store(wide + kFloatLanes, load_up_to(x + 2 * i + low, high));
    for (size_t j = 0; j < m; ++j) {
      even[j] = wide[2 * j];
      odd[j] = wide[2 * j + 1];
    }
    for (size_t j = m; j < kFloatLanes; ++j) even[j] = odd[j] = 0;
    const Vec a = load(even), b = load(odd);
    const Vec c = load_up_to(cosine + i, m), s = load_up_to(sine + i, m);
    store(even, a * c - b * s);
    store(odd, a * s + b * c);
    for (size_t j = 0; j < m; ++j) {
      wide[2 * j] = even[j];
      wide[2 * j + 1] = odd[j];
    }
    store_up_to(y + 2 * i, load(wide), low);
    if (high > 0) store_up_to(y + 2 * i + low, load(wide + kFloatLanes), high);
  });
}

constexpr float kInfinity = __builtin_inff();

// NaN counts as nothing here.
template <class T>
inline float largest_of(const T* x, size_t n) {
  Vec best[4] = {set(-kInfinity), set(-kInfinity), set(-kInfinity), set(-kInfinity)};
  size_t i = 0;
  for (; i + 4 * kFloatLanes <= n; i += 4 * kFloatLanes)
    for (size_t j = 0; j < 4; ++j) best[j] = max(load(x + i + j * kFloatLanes), best[j]);
  for (; i < n; i += kFloatLanes) {
    const size_t m = n - i < kFloatLanes ? n - i : size_t{kFloatLanes};
    best[0] = max(keep_first(load_up_to(x + i, m), m, set(-kInfinity)), best[0]);
  }
  return max_lane(max(max(best[0], best[1]), max(best[2], best[3])));
}

template <class T>
void max_and_sum_exp_row(const void* x_, size_t n, float* largest, float* total) {
  const T* x = static_cast<const T*>(x_);
  *largest = largest_of(x, n);
  // Nothing but -inf (or NaN, which must reach the sum): no shift.
  const Vec shift = set(*largest == -kInfinity ? 0.0f : *largest);
  *total = sum_vectors(n, [&](size_t i, size_t m, Vec s) {
    return s + keep_first(exp(load_up_to(x + i, m) - shift), m, zero());
  });
}

template <class T>
void exp_shifted_row(const void* x_, void* y_, size_t n, float shift, float factor) {
  const T* x = static_cast<const T*>(x_);
  T* y = static_cast<T*>(y_);
  for_vectors(n, [&](size_t i, size_t m) {
    store_up_to(y + i, exp(load_up_to(x + i, m) - set(shift)) * set(factor), m);
  });
}

template <class T>
void subtract_row(const void* x_, void* y_, size_t n, float shift, float log_sum) {
  const T* x = static_cast<const T*>(x_);
  T* y = static_cast<T*>(y_);
  for_vectors(n, [&](size_t i, size_t m) {
    store_up_to(y + i, (load_up_to(x + i, m) - set(shift)) - set(log_sum), m);
  });
}

// The first index of [0, n) where x is `value`; n if there is none.
template <class T>
inline size_t find(const T* x, size_t n, float value) {
  for (size_t i = 0; i < n; i += kFloatLanes) {
    const size_t m = n - i < kFloatLanes ? n - i : size_t{kFloatLanes};
    const uint32_t mask = equal_mask(load_up_to(x + i, m), set(value), m);
    if (mask != 0) return i + static_cast<size_t>(__builtin_ctz(mask));
  }
  return n;
}

template <class T>
void argmax_row(const void* x_, size_t n, float* largest, size_t* index) {
  const T* x = static_cast<const T*>(x_);
  *largest = largest_of(x, n);
  const size_t i = find(x, n, *largest);
  *index = i < n ? i : 0;
}

template <class T>
size_t above_row(const void* x_, size_t n, float threshold, uint32_t offset, float* values,
                 uint32_t* indices, size_t capacity, size_t* end) {
  const T* x = static_cast<const T*>(x_);
  constexpr size_t kBlock = 256;  // most hold nothing of interest once the threshold is high
  size_t count = 0, begin = 0;
  for (; begin < n; begin += kBlock) {
    const size_t m = n - begin < kBlock ? n - begin : kBlock;
    if (!(largest_of(x + begin, m) > threshold)) continue;
    if (capacity - count < m) break;
    float block[kBlock];
    for_vectors(
        m, [&](size_t i, size_t k) { store_up_to(block + i, load_up_to(x + begin + i, k), k); });
    for (size_t i = 0; i < m; ++i) {
      values[count] = block[i];
      indices[count] = offset + static_cast<uint32_t>(begin + i);
      count += block[i] > threshold;
    }
  }
  *end = begin < n ? begin : n;
  return count;
}

// The activation and its derivative; of v = the result (slope_from_result) the derivative alone.
template <Activation A>
inline void value_and_slope(Vec v, Vec* value, Vec* slope) {
  if constexpr (A == Activation::silu || A == Activation::swiglu) {
    const Vec s = sigmoid(v);
    *value = v * s;
    *slope = fma(v * s, set(1.0f) - s, s);
  } else if constexpr (A == Activation::gelu || A == Activation::geglu) {
    const Vec cdf = normal_cdf(v);
    *value = v * cdf;
    *slope = fma(v * set(0.398942280f), exp(set(-0.5f) * v * v), cdf);
  } else if constexpr (A == Activation::tanh) {
    *slope = fnma(v, v, set(1.0f));
  } else if constexpr (A == Activation::sigmoid) {
    *slope = fnma(v, v, v);
  } else if constexpr (A == Activation::relu) {
    *slope = select_less(zero(), v, set(1.0f), zero());
  } else if constexpr (A == Activation::relu2 || A == Activation::relu2_glu) {
    const Vec p = positive_part(v);
    *value = p * p;
    *slope = p + p;
  } else {
    // x sigmoid(2 s), see activation_row
    const Vec square = v * v;
    const Vec s = sigmoid(v * fma(set(0.0713548162726f), square, set(1.59576912160573f)));
    const Vec inner = fma(set(0.2140644488178f), square, set(1.59576912160573f));
    *value = v * s;
    *slope = fma(v * s * (set(1.0f) - s), inner, s);
  }
}

template <Activation A>
void activation_grad_row(const float* x, const float* up, const float* dy, float* dx, float* dup,
                         size_t n) {
  for_vectors(n, [&](size_t i, size_t m) {
    Vec value{}, slope;
    value_and_slope<A>(load_up_to(x + i, m), &value, &slope);
    const Vec d = load_up_to(dy + i, m);
    if constexpr (is_gated(A)) {
      const Vec u = load_up_to(up + i, m);
      store_up_to(dup + i, d * value, m);
      store_up_to(dx + i, d * u * slope, m);
    } else {
      store_up_to(dx + i, d * slope, m);
    }
  });
}

// x r and its dependence on r = 1/sqrt(mean(x^2) + eps): dx = r g - x r^3 mean(x g), g = weight dy.
inline void rms_norm_grad_row(const float* x, const float* weight, const float* dy, float* dx,
                              size_t n, float eps) {
  const auto weighted = [&](size_t i, size_t m) {
    const Vec d = load_up_to(dy + i, m);
    return weight != nullptr ? d * load_up_to(weight + i, m) : d;
  };
  const float squares = sum_vectors(n, [&](size_t i, size_t m, Vec s) {
    const Vec v = load_up_to(x + i, m);
    return fma(v, v, s);
  });
  const float dot = sum_vectors(
      n, [&](size_t i, size_t m, Vec s) { return fma(load_up_to(x + i, m), weighted(i, m), s); });
  const auto count = static_cast<float>(n);
  const float r = reciprocal_root(squares / count + eps);
  const Vec scale = set(r), back = set(r * r * r * (dot / count));
  for_vectors(n, [&](size_t i, size_t m) {
    store_up_to(dx + i, weighted(i, m) * scale - load_up_to(x + i, m) * back, m);
  });
}

// dx = r (g - mean(g) - h mean(g h)), h = (x - mean(x)) r, g = weight dy.
inline void layer_norm_grad_row(const float* x, const float* weight, const float* dy, float* dx,
                                size_t n, float eps) {
  const auto weighted = [&](size_t i, size_t m) {
    const Vec d = load_up_to(dy + i, m);
    return weight != nullptr ? d * load_up_to(weight + i, m) : d;
  };
  const auto count = static_cast<float>(n);
  const float total =
      sum_vectors(n, [&](size_t i, size_t m, Vec s) { return s + load_up_to(x + i, m); });
  const Vec mean = set(total / count);
  const float squares = sum_vectors(n, [&](size_t i, size_t m, Vec s) {
    const Vec d = keep_first(load_up_to(x + i, m) - mean, m, zero());
    return fma(d, d, s);
  });
  const float sum_g = sum_vectors(n, [&](size_t i, size_t m, Vec s) { return s + weighted(i, m); });
  const float dot = sum_vectors(n, [&](size_t i, size_t m, Vec s) {
    return fma(keep_first(load_up_to(x + i, m) - mean, m, zero()), weighted(i, m), s);
  });
  const float r = reciprocal_root(squares / count + eps);
  const Vec scale = set(r), mean_g = set(sum_g / count), back = set(r * r * (dot / count));
  for_vectors(n, [&](size_t i, size_t m) {
    const Vec centred = load_up_to(x + i, m) - mean;
    store_up_to(dx + i, (weighted(i, m) - mean_g - centred * back) * scale, m);
  });
}

inline float softmax_grad_row(const float* p, const float* dp, float* dx, size_t n, float scale) {
  const float dot = sum_vectors(n, [&](size_t i, size_t m, Vec s) {
    return fma(load_up_to(p + i, m), load_up_to(dp + i, m), s);
  });
  for_vectors(n, [&](size_t i, size_t m) {
    const Vec d = load_up_to(dp + i, m) - set(dot);
    store_up_to(dx + i, load_up_to(p + i, m) * d * set(scale), m);
  });
  return dot;
}

// NOLINTNEXTLINE(bugprone-macro-parentheses)
#define MLXCPP_FLOAT_TYPES(f) {f<float>, f<BFloat16>, f<Float16>}
#define MLXCPP_ACTIVATION(a)                                                      \
  {activation_row<Activation::a, float>, activation_row<Activation::a, BFloat16>, \
   activation_row<Activation::a, Float16>}

// The table that the including file exports.
#define MLXCPP_ROW_KERNELS                                                                 \
  {{MLXCPP_ACTIVATION(silu), MLXCPP_ACTIVATION(gelu), MLXCPP_ACTIVATION(gelu_approx),      \
    MLXCPP_ACTIVATION(relu2), MLXCPP_ACTIVATION(tanh), MLXCPP_ACTIVATION(sigmoid),         \
    MLXCPP_ACTIVATION(relu), MLXCPP_ACTIVATION(swiglu), MLXCPP_ACTIVATION(geglu),          \
    MLXCPP_ACTIVATION(geglu_approx), MLXCPP_ACTIVATION(relu2_glu)},                        \
   MLXCPP_FLOAT_TYPES(rms_norm_row),                                                       \
   MLXCPP_FLOAT_TYPES(layer_norm_row),                                                     \
   rope_table_row,                                                                         \
   MLXCPP_FLOAT_TYPES(rotate_halves_row),                                                  \
   MLXCPP_FLOAT_TYPES(rotate_pairs_row),                                                   \
   MLXCPP_FLOAT_TYPES(max_and_sum_exp_row),                                                \
   MLXCPP_FLOAT_TYPES(exp_shifted_row),                                                    \
   MLXCPP_FLOAT_TYPES(subtract_row),                                                       \
   MLXCPP_FLOAT_TYPES(argmax_row),                                                         \
   MLXCPP_FLOAT_TYPES(above_row),                                                          \
   {activation_grad_row<Activation::silu>, activation_grad_row<Activation::gelu>,          \
    activation_grad_row<Activation::gelu_approx>, activation_grad_row<Activation::relu2>,  \
    activation_grad_row<Activation::tanh>, activation_grad_row<Activation::sigmoid>,       \
    activation_grad_row<Activation::relu>, activation_grad_row<Activation::swiglu>,        \
    activation_grad_row<Activation::geglu>, activation_grad_row<Activation::geglu_approx>, \
    activation_grad_row<Activation::relu2_glu>},                                           \
   rms_norm_grad_row,                                                                      \
   layer_norm_grad_row,                                                                    \
   softmax_grad_row}

}  // namespace
}  // namespace mlxcpp::kernels

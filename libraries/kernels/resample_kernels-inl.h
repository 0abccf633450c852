#pragma once

// The loops of resample_kernels.h in GCC's and clang's vector types, which become the instructions
// of the set that this file is compiled for.

#include "kernels/resample_kernels.h"

namespace mlxcpp::kernels {
namespace {

using Bytes16 = uint8_t __attribute__((vector_size(16)));
using Shorts16 = int16_t __attribute__((vector_size(32)));
using Ints8 = int32_t __attribute__((vector_size(32)));
using Ints16 = int32_t __attribute__((vector_size(64)));

inline Bytes16 load_bytes(const uint8_t* p) {
  Bytes16 v;
  __builtin_memcpy(&v, p, 16);
  return v;
}
inline void store_bytes(uint8_t* p, Bytes16 v) { __builtin_memcpy(p, &v, 16); }

inline uint8_t clipped(int32_t sum, int precision) {
  const int32_t v = sum >> precision;
  return static_cast<uint8_t>(v < 0 ? 0 : v > 255 ? 255 : v);
}

// The sums of 16 neighbouring bytes over the taps.
struct Sums {
  Ints16 v;

  explicit Sums(int precision) : v(Ints16{} + (int32_t{1} << (precision - 1))) {}
  void add(const uint8_t* p, int32_t weight) {
    v += __builtin_convertvector(load_bytes(p), Ints16) * weight;
  }
  void store(int precision, uint8_t* out) const {
    Ints16 x = v >> precision;
    x = x < 0 ? Ints16{} : x;
    x = x > 255 ? Ints16{} + 255 : x;
    store_bytes(out, __builtin_convertvector(x, Bytes16));
  }
};

#if defined(__AVX2__)
// Two taps in one instruction: bytes of both side by side, times a pair of 16-bit weights.
struct PairSums {
  Ints8 low, high;  // of bytes 0-3 and 8-11, 4-7 and 12-15

  explicit PairSums(int precision) : low(Ints8{} + (int32_t{1} << (precision - 1))), high(low) {}
  void add(const uint8_t* p, const uint8_t* q, int32_t weight_p, int32_t weight_q) {
    const auto widened = [](const uint8_t* b) {
      return __builtin_convertvector(load_bytes(b), Shorts16);
    };
    const Shorts16 a = widened(p), b = widened(q);
    const auto weights = static_cast<int32_t>((static_cast<uint32_t>(weight_q) << 16) |
                                              (static_cast<uint32_t>(weight_p) & 0xffff));
    const Ints8 w = Ints8{} + weights;
    low += multiplied(
        __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 8, 24, 9, 25, 10, 26, 11, 27), w);
    high += multiplied(
        __builtin_shufflevector(a, b, 4, 20, 5, 21, 6, 22, 7, 23, 12, 28, 13, 29, 14, 30, 15, 31),
        w);
  }
  void store(int precision, uint8_t* out) const {
    const Ints8 a = clip(low >> precision), b = clip(high >> precision);
    const Ints16 x =
        __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15);
    store_bytes(out, __builtin_convertvector(x, Bytes16));
  }

 private:
  static Ints8 multiplied(Shorts16 pairs, Ints8 weights) {
    return __builtin_ia32_pmaddwd256(pairs, reinterpret_cast<Shorts16>(weights));
  }
  static Ints8 clip(Ints8 x) {
    x = x < 0 ? Ints8{} : x;
    return x > 255 ? Ints8{} + 255 : x;
  }
};
#define MLXCPP_PAIR_SUMS 1
#endif

// `at(t)` is where tap t's 16 bytes are.
template <class At>
inline void sum_16(const At& at, const int32_t* weights, int taps, int precision, bool narrow,
                   uint8_t* out) {
#if defined(MLXCPP_PAIR_SUMS)
  if (narrow) {
    PairSums sums(precision);
    int t = 0;
    for (; t + 1 < taps; t += 2) sums.add(at(t), at(t + 1), weights[t], weights[t + 1]);
    if (t < taps) sums.add(at(t), at(t), weights[t], 0);
    sums.store(precision, out);
    return;
  }
#endif
  static_cast<void>(narrow);
  Sums sums(precision);
  for (int t = 0; t < taps; ++t) sums.add(at(t), weights[t]);
  sums.store(precision, out);
}

void column_sums(const uint8_t* rows, size_t stride, const int32_t* weights, int taps,
                 int precision, bool narrow, uint8_t* out, size_t n) {
  size_t i = 0;
  for (; i + 16 <= n; i += 16)
    sum_16([&](int t) { return rows + stride * t + i; }, weights, taps, precision, narrow, out + i);
  for (; i < n; ++i) {
    int32_t sum = int32_t{1} << (precision - 1);
    for (int t = 0; t < taps; ++t) sum += weights[t] * rows[stride * t + i];
    out[i] = clipped(sum, precision);
  }
}

void pixel_sums(const uint8_t* in, const int32_t* weights, int taps, int precision, bool narrow,
                uint8_t* out) {
  constexpr size_t kPixel = 3 * kResampleRows;
  for (size_t c = 0; c < 3; ++c)
    sum_16([&](int t) { return in + kPixel * t + kResampleRows * c; }, weights, taps, precision,
           narrow, out + kResampleRows * c);
}

// 16 x 16 bytes: four rounds of weaving row i with row i + 8.
inline void transpose_16(Bytes16 (&m)[16]) {
  for (int round = 0; round < 4; ++round) {
    Bytes16 next[16];
    for (int i = 0; i < 8; ++i) {
      next[2 * i] = __builtin_shufflevector(m[i], m[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5,
                                            21, 6, 22, 7, 23);
      next[2 * i + 1] = __builtin_shufflevector(m[i], m[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12,
                                                28, 13, 29, 14, 30, 15, 31);
    }
    for (int i = 0; i < 16; ++i) m[i] = next[i];
  }
}

void interleave(const uint8_t* rows, size_t stride, size_t n, uint8_t* out) {
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    Bytes16 m[16];
    for (size_t r = 0; r < 16; ++r) m[r] = load_bytes(rows + stride * r + i);
    transpose_16(m);
    for (size_t r = 0; r < 16; ++r) store_bytes(out + 16 * (i + r), m[r]);
  }
  for (; i < n; ++i)
    for (size_t r = 0; r < 16; ++r) out[16 * i + r] = rows[stride * r + i];
}

void separate(const uint8_t* in, size_t n, uint8_t* rows, size_t stride) {
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    Bytes16 m[16];
    for (size_t r = 0; r < 16; ++r) m[r] = load_bytes(in + 16 * (i + r));
    transpose_16(m);
    for (size_t r = 0; r < 16; ++r) store_bytes(rows + stride * r + i, m[r]);
  }
  for (; i < n; ++i)
    for (size_t r = 0; r < 16; ++r) rows[stride * r + i] = in[16 * i + r];
}

#define MLXCPP_RESAMPLE_KERNELS {column_sums, pixel_sums, interleave, separate}

}  // namespace
}  // namespace mlxcpp::kernels

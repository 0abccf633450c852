// The attention kernel in plain C++: vectors of four floats, which compilers map to the baseline of
// x86-64 and arm64 alike.
#include "kernels/attention_kernel.h"

namespace mlxcpp::kernels {
namespace {

typedef float F __attribute__((vector_size(16)));
typedef int32_t I __attribute__((vector_size(16)));
constexpr int W = 4;
constexpr int kFewRows = 2, kTileRows = 4, kTileVectors = 2;

inline F set1(float x) { return F{x, x, x, x}; }
inline F zero() { return F{0, 0, 0, 0}; }
inline F load(const float* p) {
  F x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}
inline void store(float* p, F x) { __builtin_memcpy(p, &x, sizeof x); }
constexpr size_t kTransposeSide = W;
// to[i * to_ld + j] = from[j * from_ld + i] for a square.
inline void transpose_square(const float* from, size_t from_ld, float* to, size_t to_ld) {
  for (size_t i = 0; i < kTransposeSide; ++i)
    for (size_t j = 0; j < kTransposeSide; ++j) to[i * to_ld + j] = from[j * from_ld + i];
}
inline F add(F a, F b) { return a + b; }
inline F sub(F a, F b) { return a - b; }
inline F mul(F a, F b) { return a * b; }
inline F div(F a, F b) { return a / b; }
inline F fma(F a, F b, F c) { return a * b + c; }
inline F max(F a, F b) { return a > b ? a : b; }
inline F select_below(F x, float bound, F yes, F no) { return x < set1(bound) ? yes : no; }
// Adding 1.5 * 2^23 leaves no room for a fraction; right up to 2^22.
inline F round_nearest(F x) {
  const F bounded = max(x, set1(-1e6f));
  return (bounded + set1(12582912.0f)) - set1(12582912.0f);
}
inline F pow2(F n) {
  const F bounded = max(n, set1(-127.0f));
  const I bits = (__builtin_convertvector(bounded, I) + 127) << 23;
  F y;
  __builtin_memcpy(&y, &bits, sizeof y);
  return y;
}
inline float hsum(F x) { return (x[0] + x[2]) + (x[1] + x[3]); }
inline float hmax(F x) {
  const float a = x[0] > x[1] ? x[0] : x[1], b = x[2] > x[3] ? x[2] : x[3];
  return a > b ? a : b;
}
inline void hsum4(F a, F b, F c, F d, float* out) {
  out[0] = hsum(a);
  out[1] = hsum(b);
  out[2] = hsum(c);
  out[3] = hsum(d);
}

inline float f16_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16, exponent = (h >> 10) & 31,
                 fraction = h & 1023;
  uint32_t bits;
  if (exponent == 31) {
    bits = sign | 0x7F800000 | fraction << 13;
  } else if (exponent > 0) {
    bits = sign | (exponent + 112) << 23 | fraction << 13;
  } else {
    const float small = static_cast<float>(fraction) * 0x1p-24f;
    __builtin_memcpy(&bits, &small, sizeof bits);
    bits |= sign;
  }
  float y;
  __builtin_memcpy(&y, &bits, sizeof y);
  return y;
}
inline uint16_t float_to_f16(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  bits &= 0x7FFFFFFF;
  if (bits > 0x7F800000) return sign | 0x7E00;
  if (bits >= 0x477FF000) return sign | 0x7C00;  // 65520 and more round to infinity
  if (bits < 0x38800000) {                       // below 2^-14: a multiple of 2^-24
    float small;
    __builtin_memcpy(&small, &bits, sizeof small);
    const float rounded = (small + 0.5f) - 0.5f;  // 0.5's last place is 2^-24
    return sign | static_cast<uint16_t>(rounded * 0x1p24f);
  }
  bits += 0xFFF + (bits >> 13 & 1);
  return sign | static_cast<uint16_t>((bits - 0x38000000) >> 13);
}
inline uint16_t float_to_bf16(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  if ((bits & 0x7FFFFFFF) > 0x7F800000) return static_cast<uint16_t>(bits >> 16 | 64);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

inline F load_bf16(const uint16_t* p) {
  const I bits = {static_cast<int32_t>(p[0]) << 16, static_cast<int32_t>(p[1]) << 16,
                  static_cast<int32_t>(p[2]) << 16, static_cast<int32_t>(p[3]) << 16};
  F y;
  __builtin_memcpy(&y, &bits, sizeof y);
  return y;
}
inline F load_f16(const uint16_t* p) {
  return F{f16_to_float(p[0]), f16_to_float(p[1]), f16_to_float(p[2]), f16_to_float(p[3])};
}
inline F load_u8(const uint8_t* p) {
  return F{static_cast<float>(p[0]), static_cast<float>(p[1]), static_cast<float>(p[2]),
           static_cast<float>(p[3])};
}
inline F load_u4(const uint8_t* p) {
  return F{static_cast<float>(p[0] & 15), static_cast<float>(p[0] >> 4),
           static_cast<float>(p[1] & 15), static_cast<float>(p[1] >> 4)};
}
inline void store_bf16(uint16_t* p, F x) {
  for (int i = 0; i < W; ++i) p[i] = float_to_bf16(x[i]);
}
inline void store_f16(uint16_t* p, F x) {
  for (int i = 0; i < W; ++i) p[i] = float_to_f16(x[i]);
}

#include "kernels/attention-inl.h"

}  // namespace

const AttentionKernel kAttentionGeneric = {few, many, finish};

}  // namespace mlxcpp::kernels

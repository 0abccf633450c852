#pragma once

#include "kernels/quant_types.h"

#if defined(__F16C__)
#include <immintrin.h>
#endif

// The layouts of all types: from bytes to 32 small integers with their scales. Sources: MLX's
// ops.cpp and backend/cpu/quantized.cpp, ggml's ggml-common.h and the `gguf` Python package.
// In an anonymous namespace, since each instruction set has its own copy.

namespace mlxcpp::kernels::quant {
namespace {

inline uint16_t load_u16(const uint8_t* p) {
  uint16_t v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

inline float float_of_bits(uint32_t bits) {
  float f;
  __builtin_memcpy(&f, &bits, sizeof f);
  return f;
}

inline uint32_t bits_of_float(float f) {
  uint32_t bits;
  __builtin_memcpy(&bits, &f, sizeof bits);
  return bits;
}

inline float f16_to_f32(uint16_t h) {
#if defined(__F16C__)
  return _cvtsh_ss(h);
#else
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16;
  const uint32_t rest = static_cast<uint32_t>(h & 0x7fff) << 13;
  // Below 2^-14 the mantissa counts steps of 2^-24; 0x7c00 and above are infinities and NaN.
  if ((h & 0x7c00) == 0) {
    const float f = static_cast<float>(h & 0x3ff) * 0x1p-24f;
    return sign != 0 ? -f : f;
  }
  if ((h & 0x7c00) == 0x7c00) return float_of_bits(sign | 0x7f800000 | rest);
  return float_of_bits(sign | (rest + (112u << 23)));
#endif
}

// Round to nearest even; too large becomes infinity, NaN stays NaN.
inline uint16_t f32_to_f16(float f) {
#if defined(__F16C__)
  return static_cast<uint16_t>(_cvtss_sh(f, 0));
#else
  const uint32_t bits = bits_of_float(f);
  const uint32_t sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
  if (rest > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00);
  if (rest >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);
  if (rest < 0x38800000) {
    // Subnormal: adding 0.5 leaves steps of 2^-24 in the mantissa, rounded by the hardware.
    const uint32_t steps = bits_of_float(float_of_bits(rest) + 0.5f) - 0x3f000000;
    return static_cast<uint16_t>(sign | steps);
  }
  const uint32_t odd = rest >> 13 & 1;
  return static_cast<uint16_t>(sign | ((rest - (112u << 23) + 0xfff + odd) >> 13));
#endif
}

inline uint16_t f32_to_bf16(float f) {
  const uint32_t bits = bits_of_float(f);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline float bf16_to_f32(uint16_t b) { return float_of_bits(static_cast<uint32_t>(b) << 16); }

inline float load_f16(const uint8_t* p) { return f16_to_f32(load_u16(p)); }

inline float load_number(const uint8_t* p, Number number, size_t i) {
  if (number == Number::f16) return load_f16(p + 2 * i);
  if (number == Number::bf16) return bf16_to_f32(load_u16(p + 2 * i));
  float f;
  __builtin_memcpy(&f, p + 4 * i, sizeof f);
  return f;
}

inline float round_to(Number number, float f) {
  if (number == Number::f16) return f16_to_f32(f32_to_f16(f));
  if (number == Number::bf16) return bf16_to_f32(f32_to_bf16(f));
  return f;
}

// A power of two as the byte of its exponent; 0 is 2^-127, 255 infinity.
inline float e8m0_to_f32(uint8_t e) {
  return float_of_bits(e == 0 ? 0x00400000u : static_cast<uint32_t>(e) << 23);
}

// Four exponent bits, three of mantissa; no infinities, and all ones is NaN.
inline float e4m3_to_f32(uint8_t v) {
  if ((v & 0x7f) == 0x7f) return float_of_bits(0x7fc00000);
  const float magnitude = f16_to_f32(static_cast<uint16_t>((v & 0x7f) << 7)) * 256.0f;
  return (v & 0x80) != 0 ? -magnitude : magnitude;
}

// 32 weights: (q - offset) * scale + min, scales by halves. The offset is the type's.
struct Group {
  uint8_t q[kGroup];
  float scale[2];
  float min[2];

  void set_scale(float s) { scale[0] = scale[1] = s; }
  void set_min(float m) { min[0] = min[1] = m; }
};

// Low nibbles are the first half, high nibbles the second.
inline void split_nibbles(const uint8_t* p, uint8_t* q) {
  for (int i = 0; i < 16; ++i) {
    q[i] = p[i] & 15;
    q[i + 16] = p[i] >> 4;
  }
}

// Low nibbles are the even elements.
inline void zip_nibbles(const uint8_t* p, uint8_t* q) {
  for (int i = 0; i < 16; ++i) {
    q[2 * i] = p[i] & 15;
    q[2 * i + 1] = p[i] >> 4;
  }
}

inline void add_fifth_bit(const uint8_t* p, uint8_t* q) {
  uint32_t high;
  __builtin_memcpy(&high, p, sizeof high);
  for (int i = 0; i < 32; ++i) q[i] |= static_cast<uint8_t>((high >> i & 1) << 4);
}

// Each type says: the offset of its integers, whether it has minima, whether it has two scales per
// group, its largest integer, and how group g of row n is read.
template <int kBits>
struct Affine {
  static constexpr int kOffset = 0;
  static constexpr bool kHasMin = true, kTwoScales = false;
  static constexpr int kLargest = (1 << kBits) - 1;

  static void unpack(const Matrix& w, size_t n, int g, Group& out) {
    const uint8_t* p = w.data + n * w.row_bytes + static_cast<size_t>(g) * (4 * kBits);
    for (int i = 0; i < kGroup; ++i) {
      const int bit = i * kBits, byte = bit >> 3, shift = bit & 7;
      uint32_t v = p[byte];
      if (shift + kBits > 8) v |= static_cast<uint32_t>(p[byte + 1]) << 8;
      out.q[i] = static_cast<uint8_t>(v >> shift & ((1u << kBits) - 1));
    }
    const size_t s = n * (w.cols / w.group_size) + static_cast<size_t>(g) * kGroup / w.group_size;
    out.set_scale(load_number(w.scales, w.scale_number, s));
    out.set_min(load_number(w.biases, w.scale_number, s));
  }
};

// Twice the values of a 4-bit float (sign, two bits of exponent, one of mantissa), plus 16.
inline constexpr uint8_t kFp4[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};

struct MxFp4 {
  static constexpr int kOffset = 16;
  static constexpr bool kHasMin = false, kTwoScales = false;
  static constexpr int kLargest = 28;

  static void unpack(const Matrix& w, size_t n, int g, Group& out) {
    zip_nibbles(w.data + n * w.row_bytes + static_cast<size_t>(g) * 16, out.q);
    for (uint8_t& q : out.q) q = kFp4[q];
    out.set_scale(0.5f * e8m0_to_f32(w.scales[n * (w.cols / 32) + g]));
  }
};

struct NvFp4 {
  static constexpr int kOffset = 16;
  static constexpr bool kHasMin = false, kTwoScales = true;
  static constexpr int kLargest = 28;

  static void unpack(const Matrix& w, size_t n, int g, Group& out) {
    zip_nibbles(w.data + n * w.row_bytes + static_cast<size_t>(g) * 16, out.q);
    for (uint8_t& q : out.q) q = kFp4[q];
    for (int h = 0; h < 2; ++h)
      out.scale[h] = 0.5f * e4m3_to_f32(w.scales[n * (w.cols / 16) + 2 * g + h]);
  }
};

struct Q4_0 {
  static constexpr int kOffset = 8;
  static constexpr bool kHasMin = false, kTwoScales = false;
  static constexpr int kLargest = 15;
  static constexpr int kBytes = 18;

  static void unpack(const Matrix& w, size_t n, int g, Group& out) {
    const uint8_t* p = w.data + n * w.row_bytes + static_cast<size_t>(g) * kBytes;
    out.set_scale(load_f16(p));
    split_nibbles(p + 2, out.q);
  }
};

struct Q4_1 {
  static constexpr int kOffset = 0;
  static constexpr bool kHasMin = true, kTwoScales = false;
  static constexpr int kLargest = 15;
  static constexpr int kBytes = 20;

  static void unpack(const Matrix& w, size_t n, int g, Group& out) {
    const uint8_t* p = w.data + n * w.row_bytes + static_cast<size_t>(g) * kBytes;
    out.set_scale(load_f16(p));
    out.set_min(load_f16(p + 2));
    split_nibbles(p + 4, out.q);
  }
};

struct Q5_0 {
  static constexpr int kOffset = 16;
  static constexpr bool kHasMin = false, kTwoScales = false;
  static constexpr int kLargest = 31;
  static constexpr int kBytes = 22;

  static void unpack(const Matrix& w, size_t n, int g, Group& out) {
    const uint8_t* p = w.data + n * w.row_bytes + static_cast<size_t>(g) * kBytes;
    out.set_scale(load_f16(p));
    split_nibbles(p + 6, out.q);
    add_fifth_bit(p + 2, out.q);
  }
};

struct Q5_1 {
  static constexpr int kOffset = 0;
  static constexpr bool kHasMin = true, kTwoScales = false;
  static constexpr int kLargest = 31;
  static constexpr int kBytes = 24;

  static void unpack(const Matrix& w, size_t n, int g, Group& out) {
    const uint8_t* p = w.data + n * w.row_bytes + static_cast<size_t>(g) * kBytes;
    out.set_scale(load_f16(p));
    out.set_min(load_f16(p + 2));
    split_nibbles(p + 8, out.q);
    add_fifth_bit(p + 4, out.q);
  }
};

struct Q8_0 {
  static constexpr int kOffset = 128;
  static constexpr bool kHasMin = false, kTwoScales = false;
  static constexpr int kLargest = 255;
  static constexpr int kBytes = 34;

  static void unpack(const Matrix& w, size_t n, int g, Group& out) {
    const uint8_t* p = w.data + n * w.row_bytes + static_cast<size_t>(g) * kBytes;
    out.set_scale(load_f16(p));
    for (int i = 0; i < kGroup; ++i) out.q[i] = p[2 + i] ^ 0x80;
  }
};

// Super-blocks of 256 weights: 8 groups. Names of the fields as in ggml-common.h.
inline const uint8_t* super_block(const Matrix& w, size_t n, int g, int bytes) {
  return w.data + n * w.row_bytes + static_cast<size_t>(g >> 3) * bytes;
}

struct Q2_K {  // scales[16], qs[64], d, dmin
  static constexpr int kOffset = 0;
  static constexpr bool kHasMin = true, kTwoScales = true;
  static constexpr int kLargest = 3;
  static constexpr int kBytes = 84;

  static void unpack(const Matrix& w, size_t n, int g, Group& out) {
    const uint8_t* p = super_block(w, n, g, kBytes);
    const int i = g & 7;
    const uint8_t* qs = p + 16 + (i >> 2) * 32;
    for (int k = 0; k < kGroup; ++k) out.q[k] = qs[k] >> (2 * (i & 3)) & 3;
    const float d = load_f16(p + 80), dmin = load_f16(p + 82);
    for (int h = 0; h < 2; ++h) {
      out.scale[h] = d * static_cast<float>(p[2 * i + h] & 15);
      out.min[h] = -(dmin * static_cast<float>(p[2 * i + h] >> 4));
    }
  }
};

struct Q3_K {  // hmask[32], qs[64], scales[12], d
  static constexpr int kOffset = 4;
  static constexpr bool kHasMin = false, kTwoScales = true;
  static constexpr int kLargest = 7;
  static constexpr int kBytes = 110;

  static void unpack(const Matrix& w, size_t n, int g, Group& out) {
    const uint8_t* p = super_block(w, n, g, kBytes);
    const int i = g & 7;
    const uint8_t* qs = p + 32 + (i >> 2) * 32;
    for (int k = 0; k < kGroup; ++k)
      out.q[k] = static_cast<uint8_t>((qs[k] >> (2 * (i & 3)) & 3) | (p[k] >> i & 1) << 2);
    const uint8_t* packed = p + 96;
    const float d = load_f16(p + 108);
    for (int h = 0; h < 2; ++h) {
      const int j = 2 * i + h;
      const int low = packed[j & 7] >> (j < 8 ? 0 : 4) & 15;
      const int high = packed[8 + (j & 3)] >> (2 * (j >> 2)) & 3;
      out.scale[h] = d * static_cast<float>((low | high << 4) - 32);
    }
  }
};

// The 6-bit scale and minimum of group i, from the 12 bytes that q4_k and q5_k share.
inline void k_scale_min(const uint8_t* s, int i, int& scale, int& min) {
  if (i < 4) {
    scale = s[i] & 63;
    min = s[i + 4] & 63;
  } else {
    scale = (s[i + 4] & 15) | (s[i - 4] >> 6) << 4;
    min = s[i + 4] >> 4 | (s[i] >> 6) << 4;
  }
}

inline void k_scale_min(const uint8_t* block, int i, Group& out) {
  int scale, min;
  k_scale_min(block + 4, i, scale, min);
  out.set_scale(load_f16(block) * static_cast<float>(scale));
  out.set_min(-(load_f16(block + 2) * static_cast<float>(min)));
}

struct Q4_K {  // d, dmin, scales[12], qs[128]
  static constexpr int kOffset = 0;
  static constexpr bool kHasMin = true, kTwoScales = false;
  static constexpr int kLargest = 15;
  static constexpr int kBytes = 144;

  static void unpack(const Matrix& w, size_t n, int g, Group& out) {
    const uint8_t* p = super_block(w, n, g, kBytes);
    const int i = g & 7;
    const uint8_t* qs = p + 16 + (i >> 1) * 32;
    for (int k = 0; k < kGroup; ++k) out.q[k] = qs[k] >> (4 * (i & 1)) & 15;
    k_scale_min(p, i, out);
  }
};

struct Q5_K {  // d, dmin, scales[12], qh[32], qs[128]
  static constexpr int kOffset = 0;
  static constexpr bool kHasMin = true, kTwoScales = false;
  static constexpr int kLargest = 31;
  static constexpr int kBytes = 176;

  static void unpack(const Matrix& w, size_t n, int g, Group& out) {
    const uint8_t* p = super_block(w, n, g, kBytes);
    const int i = g & 7;
    const uint8_t* qh = p + 16;
    const uint8_t* qs = p + 48 + (i >> 1) * 32;
    for (int k = 0; k < kGroup; ++k)
      out.q[k] = static_cast<uint8_t>((qs[k] >> (4 * (i & 1)) & 15) | (qh[k] >> i & 1) << 4);
    k_scale_min(p, i, out);
  }
};

struct Q6_K {  // ql[128], qh[64], scales[16], d
  static constexpr int kOffset = 32;
  static constexpr bool kHasMin = false, kTwoScales = true;
  static constexpr int kLargest = 63;
  static constexpr int kBytes = 210;

  static void unpack(const Matrix& w, size_t n, int g, Group& out) {
    const uint8_t* p = super_block(w, n, g, kBytes);
    const int i = g & 7, j = i & 3;  // group j of the half i >> 2
    const uint8_t* ql = p + (i >> 2) * 64 + (j & 1) * 32;
    const uint8_t* qh = p + 128 + (i >> 2) * 32;
    for (int k = 0; k < kGroup; ++k)
      out.q[k] = static_cast<uint8_t>((ql[k] >> (4 * (j >> 1)) & 15) | (qh[k] >> (2 * j) & 3) << 4);
    const float d = load_f16(p + 208);
    for (int h = 0; h < 2; ++h)
      out.scale[h] = d * static_cast<float>(static_cast<int8_t>(p[192 + 2 * i + h]));
  }
};

// The 16 levels of iq4_nl, plus 128.
inline constexpr uint8_t kIq4Nl[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                       129, 141, 153, 166, 181, 197, 217, 241};

struct Iq4Nl {
  static constexpr int kOffset = 128;
  static constexpr bool kHasMin = false, kTwoScales = false;
  static constexpr int kLargest = 241;
  static constexpr int kBytes = 18;

  static void unpack(const Matrix& w, size_t n, int g, Group& out) {
    const uint8_t* p = w.data + n * w.row_bytes + static_cast<size_t>(g) * kBytes;
    out.set_scale(load_f16(p));
    split_nibbles(p + 2, out.q);
    for (uint8_t& q : out.q) q = kIq4Nl[q];
  }
};

// Its bytes are floats, e4m3, and no small integers: the loops over integers do without it.
struct MxFp8 {
  static constexpr int kOffset = 0, kLargest = 255;
  static constexpr bool kHasMin = false, kTwoScales = false;
};
template <class T>
inline constexpr bool kFloats = false;
template <>
inline constexpr bool kFloats<MxFp8> = true;

// Calls f with a value of the type that w has; mxfp8 is not among them.
template <class F>
inline void with_type(const Matrix& w, F&& f) {
  switch (w.mode) {
    case QuantMode::affine:
      switch (w.bits) {
        case 2:
          return f(Affine<2>{});
        case 3:
          return f(Affine<3>{});
        case 4:
          return f(Affine<4>{});
        case 5:
          return f(Affine<5>{});
        case 6:
          return f(Affine<6>{});
        default:
          return f(Affine<8>{});
      }
    case QuantMode::mxfp4:
      return f(MxFp4{});
    case QuantMode::nvfp4:
      return f(NvFp4{});
    case QuantMode::q4_0:
      return f(Q4_0{});
    case QuantMode::q4_1:
      return f(Q4_1{});
    case QuantMode::q5_0:
      return f(Q5_0{});
    case QuantMode::q5_1:
      return f(Q5_1{});
    case QuantMode::q8_0:
      return f(Q8_0{});
    case QuantMode::q2_k:
      return f(Q2_K{});
    case QuantMode::q3_k:
      return f(Q3_K{});
    case QuantMode::q4_k:
      return f(Q4_K{});
    case QuantMode::q5_k:
      return f(Q5_K{});
    case QuantMode::q6_k:
      return f(Q6_K{});
    case QuantMode::iq4_nl:
      return f(Iq4Nl{});
    case QuantMode::mxfp8:
      return;
  }
}

}  // namespace
}  // namespace mlxcpp::kernels::quant

#pragma once

#include <immintrin.h>

namespace mlxcpp::kernels::quant {
namespace {
inline constexpr int kLanes = 16;
inline constexpr bool kWords = false;
}  // namespace
}  // namespace mlxcpp::kernels::quant

#include "kernels/quant_layout-inl.h"
#include "kernels/quant_scales_avx.h"

// The types as AVX-512 reads them, a step of 128 weights at a time.

namespace mlxcpp::kernels::quant {
namespace {

struct Step {
  __m512i q[2];
  __m512 scale;  // by lanes
  __m512 min;    // by lanes; only if the type has minima
};

struct alignas(64) Words {
  uint16_t v[32];
  __m512i load() const { return _mm512_load_si512(v); }
};
struct alignas(64) Dwords {
  int32_t v[16];
  __m512i load() const { return _mm512_load_si512(v); }
};
struct alignas(64) Qwords {
  int64_t v[8];
  __m512i load() const { return _mm512_load_si512(v); }
};

// The first `bytes` bytes as a mask; all of them if there are 64 or more, none below 1.
inline __mmask64 first_bytes(int bytes) {
  if (bytes >= 64) return ~0ull;
  return bytes <= 0 ? 0 : ~0ull >> (64 - bytes);
}

inline __m512i low_nibbles(__m512i v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
inline __m512i high_nibbles(__m512i v) { return low_nibbles(_mm512_srli_epi16(v, 4)); }
// 128-bit parts a0 b0 a2 b2 (odd: a1 b1 a3 b3).
inline __m512i even_parts(__m512i a, __m512i b) {
  static constexpr Qwords kIndex{{0, 1, 8, 9, 4, 5, 12, 13}};
  return _mm512_permutex2var_epi64(a, kIndex.load(), b);
}
inline __m512i odd_parts(__m512i a, __m512i b) {
  static constexpr Qwords kIndex{{2, 3, 10, 11, 6, 7, 14, 15}};
  return _mm512_permutex2var_epi64(a, kIndex.load(), b);
}
inline __m512i lookup(const uint8_t (&table)[16], __m512i index) {
  const __m128i t = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(t), index);
}

// Blocks of 32 weights with f16 scale, and minimum, before them: four at a time. Their sizes are
// even, so that permutations of words take them apart.
template <class T, int kNibbles, int kFifthBits>
struct LoadBlocks {
  static constexpr Order kOrder = Order::halves;
  static constexpr int kSteps = 1, kUnitBytes = kStepGroups * T::kBytes;

  static constexpr Words nibble_words() {
    Words w{};
    for (int i = 0; i < 32; ++i)
      w.v[i] = static_cast<uint16_t>((i / 8 * T::kBytes + kNibbles) / 2 + i % 8);
    return w;
  }
  // f16 scales by lanes, then minima.
  static constexpr Words scale_words() {
    Words w{};
    for (int i = 0; i < 32; ++i)
      w.v[i] = static_cast<uint16_t>(i % 16 / 4 * T::kBytes / 2 + i / 16);
    return w;
  }
  // Fifth bits of the first halves, then of the second.
  static constexpr Words bit_words() {
    Words w{};
    for (int i = 0; i < 8; ++i)
      w.v[i] = static_cast<uint16_t>((i % 4 * T::kBytes + kFifthBits) / 2 + i / 4);
    return w;
  }

  explicit LoadBlocks(const Matrix&) {}

  template <bool kPartial>
  void load(const Row& row, int step, int groups, Step* out) const {
    static constexpr Words kNibbleWords = nibble_words(), kScaleWords = scale_words(),
                           kBitWords = bit_words();
    const uint8_t* p = row.p + static_cast<size_t>(step) * (4 * T::kBytes);
    const int bytes = kPartial ? groups * T::kBytes : 4 * T::kBytes;
    const __m512i a =
        kPartial ? _mm512_maskz_loadu_epi8(first_bytes(bytes), p) : _mm512_loadu_si512(p);
    const __m512i b = _mm512_maskz_loadu_epi8(first_bytes(bytes - 64), p + 64);
    const __m512i nibbles = _mm512_permutex2var_epi16(a, kNibbleWords.load(), b);
    const __m512i scales = _mm512_permutex2var_epi16(a, kScaleWords.load(), b);
    out->scale = _mm512_cvtph_ps(_mm512_castsi512_si256(scales));
    if constexpr (T::kHasMin) out->min = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(scales, 1));
    out->q[0] = low_nibbles(nibbles);
    out->q[1] = high_nibbles(nibbles);
    if constexpr (kFifthBits >= 0) {
      const __m128i bits =
          _mm512_castsi512_si128(_mm512_permutex2var_epi16(a, kBitWords.load(), b));
      const __m512i sixteen = _mm512_set1_epi8(16);
      const auto first = static_cast<__mmask64>(_mm_cvtsi128_si64(bits));
      const auto second = static_cast<__mmask64>(_mm_extract_epi64(bits, 1));
      out->q[0] = _mm512_mask_add_epi8(out->q[0], first, out->q[0], sixteen);
      out->q[1] = _mm512_mask_add_epi8(out->q[1], second, out->q[1], sixteen);
    }
  }
};

struct LoadIq4Nl : LoadBlocks<Iq4Nl, 2, -1> {
  using LoadBlocks::LoadBlocks;

  template <bool kPartial>
  void load(const Row& row, int step, int groups, Step* out) const {
    LoadBlocks::load<kPartial>(row, step, groups, out);
    for (__m512i& q : out->q) q = lookup(kIq4Nl, q);
  }
};

struct LoadQ8_0 {
  static constexpr Order kOrder = Order::halves;
  static constexpr int kSteps = 1, kUnitBytes = kStepGroups * Q8_0::kBytes;

  explicit LoadQ8_0(const Matrix&) {}

  template <bool kPartial>
  void load(const Row& row, int step, int groups, Step* out) const {
    static constexpr int kBytes = Q8_0::kBytes;
    const uint8_t* p = row.p + static_cast<size_t>(step) * (4 * kBytes);
    const auto half = [&](int j) {
      const uint8_t* q = p + j * kBytes + 2;
      if (kPartial) return _mm256_maskz_loadu_epi8(j < groups ? ~0u : 0, q);
      return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(q));
    };
    const __m512i a = _mm512_inserti64x4(_mm512_castsi256_si512(half(0)), half(1), 1);
    const __m512i b = _mm512_inserti64x4(_mm512_castsi256_si512(half(2)), half(3), 1);
    const __m512i sign = _mm512_set1_epi8(-128);
    out->q[0] = _mm512_xor_si512(_mm512_shuffle_i64x2(a, b, 0x88), sign);
    out->q[1] = _mm512_xor_si512(_mm512_shuffle_i64x2(a, b, 0xdd), sign);
    uint64_t scales = load_u16(p);
    for (int j = 1; j < 4; ++j)
      if (!kPartial || j < groups)
        scales |= static_cast<uint64_t>(load_u16(p + j * kBytes)) << (16 * j);
    const __m128 four = _mm_cvtph_ps(_mm_cvtsi64_si128(static_cast<long long>(scales)));
    static constexpr Dwords kLanes{{0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3}};
    out->scale = _mm512_permutexvar_ps(kLanes.load(), _mm512_castps128_ps512(four));
  }
};

// Lanes of the four scales of step s among 16.
inline __m512i lanes_of_fours(int s) {
  static constexpr Dwords kLanes{{0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3}};
  return _mm512_add_epi32(kLanes.load(), _mm512_set1_epi32(4 * s));
}
// The same for eight scales, of subgroups.
inline __m512i lanes_of_eights(int s) {
  static constexpr Dwords kLanes{{0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7}};
  return _mm512_add_epi32(kLanes.load(), _mm512_set1_epi32(8 * s));
}

// q4_k and q5_k.
template <class T>
struct LoadK4 {
  static constexpr Order kOrder = Order::halves;
  static constexpr int kSteps = 2, kUnitBytes = T::kBytes;

  explicit LoadK4(const Matrix&) {}

  template <bool kPartial>
  void load(const Row& row, int unit, int, Step* out) const {
    constexpr bool kFive = T::kBytes == Q5_K::kBytes;
    const uint8_t* p = row.p + static_cast<size_t>(unit) * T::kBytes;
    const __m128i packed = k_scales_mins(p + 4);
    // Eight scales, then eight minima, times d and -dmin.
    const __m512 d = _mm512_castsi512_ps(_mm512_mask_xor_epi32(
        _mm512_castps_si512(_mm512_set1_ps(load_f16(p))), 0xff00,
        _mm512_castps_si512(_mm512_set1_ps(load_f16(p + 2))), _mm512_set1_epi32(INT32_MIN)));
    const __m512 scales = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(packed)));
    __m512i high = _mm512_setzero_si512();
    if constexpr (kFive)
      high = _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 16)));
    for (int i = 0; i < 2; ++i) {
      const __m512i v = _mm512_loadu_si512(p + (kFive ? 48 : 16) + 64 * i);
      __m512i low4 = low_nibbles(v), high4 = high_nibbles(v);
      if constexpr (kFive) {
        const __m512i sixteen = _mm512_set1_epi8(16);
        const auto bit = [&](int group) {  // of groups `group` and `group` + 2
          const __m512i mask =
              _mm512_inserti64x4(_mm512_set1_epi8(static_cast<char>(1 << group)),
                                 _mm256_set1_epi8(static_cast<char>(1 << (group + 2))), 1);
          return _mm512_test_epi8_mask(high, mask);
        };
        low4 = _mm512_mask_add_epi8(low4, bit(4 * i), low4, sixteen);
        high4 = _mm512_mask_add_epi8(high4, bit(4 * i + 1), high4, sixteen);
      }
      out[i].q[0] = even_parts(low4, high4);
      out[i].q[1] = odd_parts(low4, high4);
      out[i].scale = _mm512_permutexvar_ps(lanes_of_fours(i), scales);
      out[i].min = _mm512_permutexvar_ps(lanes_of_fours(i + 2), scales);
    }
  }
};

// From groups 0 and 1 in `a`, and 2 and 3 in `b`, to the order sixteens.
inline void to_sixteens(__m512i a, __m512i b, Step* out) {
  static constexpr Qwords kEven{{0, 2, 4, 6, 8, 10, 12, 14}}, kOdd{{1, 3, 5, 7, 9, 11, 13, 15}};
  out->q[0] = _mm512_permutex2var_epi64(a, kEven.load(), b);
  out->q[1] = _mm512_permutex2var_epi64(a, kOdd.load(), b);
}

struct LoadQ6K {
  static constexpr Order kOrder = Order::sixteens;
  static constexpr int kSteps = 2, kUnitBytes = Q6_K::kBytes;

  explicit LoadQ6K(const Matrix&) {}

  template <bool kPartial>
  void load(const Row& row, int unit, int, Step* out) const {
    const uint8_t* p = row.p + static_cast<size_t>(unit) * Q6_K::kBytes;
    const __m128i s = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 192));
    const __m512 scales = _mm512_mul_ps(_mm512_set1_ps(load_f16(p + 208)),
                                        _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(s)));
    for (int i = 0; i < 2; ++i) {
      const __m512i v = _mm512_loadu_si512(p + 64 * i);
      const __m512i h = _mm512_broadcast_i64x4(
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 128 + 32 * i)));
      // Bits 0 and 1 of h for group 0, 2 and 3 for group 1, ... to bits 4 and 5.
      const __m512i left = _mm512_inserti64x4(_mm512_set1_epi16(4), _mm256_set1_epi16(2), 1);
      const __m512i right = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(2), 1);
      const __m512i two_bits = _mm512_set1_epi8(0x30);
      const auto join = [&](__m512i low, __m512i high) {  // low | (high & two_bits)
        return _mm512_ternarylogic_epi32(low, high, two_bits, 0xf8);
      };
      to_sixteens(join(low_nibbles(v), _mm512_sllv_epi16(h, left)),
                  join(high_nibbles(v), _mm512_srlv_epi16(h, right)), &out[i]);
      out[i].scale = _mm512_permutexvar_ps(lanes_of_eights(i), scales);
    }
  }
};

// q2_k and q3_k: two bits of each integer in qs, the third of q3_k in hmask.
template <class T>
struct LoadK2 {
  static constexpr Order kOrder = Order::sixteens;
  static constexpr int kSteps = 2, kUnitBytes = T::kBytes;

  explicit LoadK2(const Matrix&) {}

  template <bool kPartial>
  void load(const Row& row, int unit, int, Step* out) const {
    constexpr bool kThree = T::kBytes == Q3_K::kBytes;
    const uint8_t* p = row.p + static_cast<size_t>(unit) * T::kBytes;
    const auto twice = [](const uint8_t* bytes) {
      return _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes)));
    };
    const auto times = [](__m128i bytes, float d) {
      return _mm512_mul_ps(_mm512_set1_ps(d), _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)));
    };
    __m512 scale, min = _mm512_setzero_ps();
    __m512i hmask = _mm512_setzero_si512();
    if constexpr (kThree) {
      hmask = twice(p);
      scale = times(q3_k_scales(p + 96), load_f16(p + 108));
    } else {
      const __m128i both = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
      const __m128i fifteen = _mm_set1_epi8(15);
      scale = times(_mm_and_si128(both, fifteen), load_f16(p + 80));
      min = times(_mm_and_si128(_mm_srli_epi16(both, 4), fifteen), -load_f16(p + 82));
    }
    for (int i = 0; i < 2; ++i) {
      const __m512i v = twice(p + (kThree ? 32 : 16) + 32 * i);
      const auto groups = [&](int first) {  // of the step's four, `first` and the next
        const __m512i shift =
            _mm512_inserti64x4(_mm512_set1_epi16(static_cast<int16_t>(2 * first)),
                               _mm256_set1_epi16(static_cast<int16_t>(2 * first + 2)), 1);
        const __m512i q = _mm512_and_si512(_mm512_srlv_epi16(v, shift), _mm512_set1_epi8(3));
        if constexpr (!kThree) return q;
        const __m512i bit =
            _mm512_inserti64x4(_mm512_set1_epi8(static_cast<char>(1 << (4 * i + first))),
                               _mm256_set1_epi8(static_cast<char>(1 << (4 * i + first + 1))), 1);
        return _mm512_mask_add_epi8(q, _mm512_test_epi8_mask(hmask, bit), q, _mm512_set1_epi8(4));
      };
      to_sixteens(groups(0), groups(2), &out[i]);
      out[i].scale = _mm512_permutexvar_ps(lanes_of_eights(i), scale);
      if constexpr (T::kHasMin) out[i].min = _mm512_permutexvar_ps(lanes_of_eights(i), min);
    }
  }
};

// Scales of MLX's types for the groups of a step, by lanes.
struct MlxScales {
  explicit MlxScales(const Matrix& w) : group_size(w.group_size), number(w.scale_number) {
    const int shift = group_size == 128 ? 4 : group_size == 64 ? 3 : group_size == 32 ? 2 : 1;
    static constexpr Dwords kLanes{{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}};
    index = _mm512_srli_epi32(kLanes.load(), static_cast<unsigned>(shift));
    count = kStep / group_size;
  }

  template <bool kPartial>
  __mmask8 mask(int groups) const {
    const int n = kPartial ? groups * kGroup / group_size : count;
    return static_cast<__mmask8>((1u << n) - 1);
  }
  __m512 spread(__m256 scales) const {
    return _mm512_permutexvar_ps(index, _mm512_castps256_ps512(scales));
  }
  template <bool kPartial>
  __m512 floats(const uint8_t* p, int step, int groups) const {
    const size_t at = static_cast<size_t>(step) * count;
    const __mmask8 m = mask<kPartial>(groups);
    if (number == Number::f32) return spread(_mm256_maskz_loadu_ps(m, p + 4 * at));
    const __m128i half = _mm_maskz_loadu_epi16(m, p + 2 * at);
    if (number == Number::f16) return spread(_mm256_cvtph_ps(half));
    return spread(_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16)));
  }
  // Bytes as they are, widened.
  template <bool kPartial>
  __m256i bytes(const uint8_t* p, int step, int groups) const {
    const __m128i b =
        _mm_maskz_loadu_epi8(mask<kPartial>(groups), p + static_cast<size_t>(step) * count);
    return _mm256_cvtepu8_epi32(b);
  }
  // Powers of two; 1 in lanes without a scale, since arithmetic with what 0 stands for, 2^-127, is
  // ten times slower on some processors.
  template <bool kPartial>
  __m256 e8m0(const uint8_t* p, int step, int groups) const {
    const __m128i b = _mm_mask_loadu_epi8(_mm_set1_epi8(127), mask<kPartial>(groups),
                                          p + static_cast<size_t>(step) * count);
    const __m256i exponents = _mm256_slli_epi32(_mm256_cvtepu8_epi32(b), 23);
    return _mm256_castsi256_ps(_mm256_max_epu32(exponents, _mm256_set1_epi32(0x400000)));
  }

  int group_size, count;
  Number number;
  __m512i index;
};

// 128 nibbles in the order pairs.
template <bool kPartial>
inline void load_pairs(const uint8_t* p, int step, int groups, Step* out) {
  const uint8_t* q = p + static_cast<size_t>(step) * 64;
  const __m512i v =
      kPartial ? _mm512_maskz_loadu_epi8(first_bytes(16 * groups), q) : _mm512_loadu_si512(q);
  out->q[0] = low_nibbles(v);
  out->q[1] = high_nibbles(v);
}

struct LoadAffine4 {
  static constexpr Order kOrder = Order::pairs;
  static constexpr int kSteps = 1, kUnitBytes = kStep / 2;

  explicit LoadAffine4(const Matrix& w) : scales(w) {}

  template <bool kPartial>
  void load(const Row& row, int step, int groups, Step* out) const {
    load_pairs<kPartial>(row.p, step, groups, out);
    out->scale = scales.floats<kPartial>(row.scales, step, groups);
    out->min = scales.floats<kPartial>(row.biases, step, groups);
  }

  MlxScales scales;
};

// 128 bytes in the order halves.
template <bool kPartial>
inline void load_bytes(const uint8_t* row, int step, int groups, Step* out) {
  const uint8_t* p = row + static_cast<size_t>(step) * kStep;
  const int bytes = kPartial ? groups * kGroup : kStep;
  const __m512i a = _mm512_maskz_loadu_epi8(first_bytes(bytes), p);
  const __m512i b = _mm512_maskz_loadu_epi8(first_bytes(bytes - 64), p + 64);
  out->q[0] = _mm512_shuffle_i64x2(a, b, 0x88);
  out->q[1] = _mm512_shuffle_i64x2(a, b, 0xdd);
}

struct LoadAffine8 {
  static constexpr Order kOrder = Order::halves;
  static constexpr int kSteps = 1, kUnitBytes = kStep;

  explicit LoadAffine8(const Matrix& w) : scales(w) {}

  template <bool kPartial>
  void load(const Row& row, int step, int groups, Step* out) const {
    load_bytes<kPartial>(row.p, step, groups, out);
    out->scale = scales.floats<kPartial>(row.scales, step, groups);
    out->min = scales.floats<kPartial>(row.biases, step, groups);
  }

  MlxScales scales;
};

struct LoadMxFp4 {
  static constexpr Order kOrder = Order::pairs;
  static constexpr int kSteps = 1, kUnitBytes = kStep / 2;

  explicit LoadMxFp4(const Matrix& w) : scales(w) {}

  template <bool kPartial>
  void load(const Row& row, int step, int groups, Step* out) const {
    load_pairs<kPartial>(row.p, step, groups, out);
    for (__m512i& q : out->q) q = lookup(kFp4, q);
    const __m256 e = scales.e8m0<kPartial>(row.scales, step, groups);
    out->scale = scales.spread(_mm256_mul_ps(e, _mm256_set1_ps(0.5f)));
  }

  MlxScales scales;
};

struct LoadMxFp8 {
  static constexpr Order kOrder = Order::halves;
  static constexpr int kSteps = 1, kUnitBytes = kStep;

  explicit LoadMxFp8(const Matrix& w) : scales(w) {}

  template <bool kPartial>
  void load(const Row& row, int step, int groups, Step* out) const {
    load_bytes<kPartial>(row.p, step, groups, out);
    out->scale = scales.spread(scales.e8m0<kPartial>(row.scales, step, groups));
  }

  MlxScales scales;
};

// Integers of 2, 3, 5 or 6 bits, one after another.
template <int kBits>
struct LoadAffineBits {
  static constexpr Order kOrder = Order::halves;
  static constexpr int kSteps = 1, kUnitBytes = kStep * kBits / 8;
  static constexpr int kGroupBytes = kGroup * kBits / 8;

  explicit LoadAffineBits(const Matrix& w) : scales(w) {}

  // For each 128-bit part the words from a half of its group on. What lies beyond the half is
  // never looked at.
  static constexpr Words half_words(int half) {
    Words words{};
    for (int i = 0; i < 32; ++i)
      words.v[i] =
          static_cast<uint16_t>(((i / 8 * kGroupBytes + half * kGroupBytes / 2) / 2 + i % 8) % 64);
    return words;
  }

  template <int kHalf>
  static __m512i half(__m512i a, __m512i b) {
    static constexpr Words kWords = half_words(kHalf);
    static constexpr BitWords<kBits> kLow(0, 0), kHigh(8, 0);
    const __m512i v = _mm512_permutex2var_epi16(a, kWords.load(), b);
    const auto eight = [&](const BitWords<kBits>& words) {
      const __m512i index =
          _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(words.bytes)));
      const __m512i factor =
          _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(words.factors)));
      return _mm512_srli_epi16(_mm512_mullo_epi16(_mm512_shuffle_epi8(v, index), factor),
                               16 - kBits);
    };
    return _mm512_packus_epi16(eight(kLow), eight(kHigh));
  }

  template <bool kPartial>
  void load(const Row& row, int step, int groups, Step* out) const {
    const uint8_t* p = row.p + static_cast<size_t>(step) * kUnitBytes;
    const int bytes = kPartial ? groups * kGroupBytes : kUnitBytes;
    const __m512i a = _mm512_maskz_loadu_epi8(first_bytes(bytes), p);
    __m512i b = _mm512_setzero_si512();
    if constexpr (kUnitBytes > 64) b = _mm512_maskz_loadu_epi8(first_bytes(bytes - 64), p + 64);
    out->q[0] = half<0>(a, b);
    out->q[1] = half<1>(a, b);
    out->scale = scales.floats<kPartial>(row.scales, step, groups);
    out->min = scales.floats<kPartial>(row.biases, step, groups);
  }

  MlxScales scales;
};

struct LoadNvFp4 {
  static constexpr Order kOrder = Order::pairs;
  static constexpr int kSteps = 1, kUnitBytes = kStep / 2;

  explicit LoadNvFp4(const Matrix& w) : scales(w) {}

  template <bool kPartial>
  void load(const Row& row, int step, int groups, Step* out) const {
    load_pairs<kPartial>(row.p, step, groups, out);
    for (__m512i& q : out->q) q = lookup(kFp4, q);
    const __m256i v = scales.bytes<kPartial>(row.scales, step, groups);
    out->scale = scales.spread(e4m3<-1>(v));  // kFp4 is twice the values
  }

  MlxScales scales;
};

}  // namespace
}  // namespace mlxcpp::kernels::quant

#include "kernels/quant_loaders-inl.h"

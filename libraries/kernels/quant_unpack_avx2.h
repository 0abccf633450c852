#pragma once

#include <immintrin.h>

namespace mlxcpp::kernels::quant {
namespace {
inline constexpr int kLanes = 8;
inline constexpr bool kWords = true;
}  // namespace
}  // namespace mlxcpp::kernels::quant

#include "kernels/quant_layout-inl.h"
#include "kernels/quant_scales_avx.h"

// The types as AVX2 reads them, a step of 64 weights at a time. Bytes have no sign, as in
// quant_unpack.h, except those of types whose integers go beyond 6 bits: vpmaddubsw would saturate,
// so they are read with their sign, offset taken off.

namespace mlxcpp::kernels::quant {
namespace {

template <class T>
constexpr bool kSigned = T::kLargest > 63;
template <class T>
constexpr int kByteOffset = kSigned<T> ? 0 : T::kOffset;

struct Step {
  __m256i q[2];
  __m256 scale;  // by lanes
  __m256 min;    // by lanes; only if the type has minima
};

inline __m256i load32(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline __m128i load_16(const uint8_t* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
inline __m256i low_nibbles(__m256i v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
inline __m256i high_nibbles(__m256i v) { return low_nibbles(_mm256_srli_epi16(v, 4)); }

inline __m256i lookup(const uint8_t (&table)[16], __m256i index) {
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load_16(table)), index);
}

// One number for the lanes of group 0, another for those of group 1.
inline __m256 two_groups(float a, float b) {
  return _mm256_set_m128(_mm_set1_ps(b), _mm_set1_ps(a));
}
// The f16 numbers at the start of two blocks of weights, b possibly none; number kIndex (0 or 1) by
// lanes. Loads that repeat, and one conversion for both numbers: vectors of one row are bound by
// the shuffles.
struct TwoBlocks {
  TwoBlocks(const uint8_t* a, const uint8_t* b) {
    const __m128i first = repeated(a);
    numbers = _mm256_cvtph_ps(b == nullptr ? _mm_move_epi64(first)
                                           : _mm_blend_epi32(first, repeated(b), 0b1100));
  }
  // As a float, which gcc repeats in the load itself.
  static __m128i repeated(const uint8_t* p) {
    float f;
    __builtin_memcpy(&f, p, 4);
    return _mm_castps_si128(_mm_set1_ps(f));
  }
  template <int kIndex>
  __m256 number() const {
    return kIndex == 0 ? _mm256_moveldup_ps(numbers) : _mm256_movehdup_ps(numbers);
  }
  __m256 numbers;  // both, in turns
};

// Groups a and b, elements in order, to the orders of Order.
inline void to_halves(__m256i a, __m256i b, Step* out) {
  out->q[0] = _mm256_permute2x128_si256(a, b, 0x20);
  out->q[1] = _mm256_permute2x128_si256(a, b, 0x31);
}
inline void to_sixteens(__m256i a, __m256i b, Step* out) {
  to_halves(_mm256_permute4x64_epi64(a, 0xd8), _mm256_permute4x64_epi64(b, 0xd8), out);
}

// Blocks of 32 weights with f16 scale, and minimum, before them.
template <class T, int kNibbles, int kFifthBits>
struct LoadBlocks {
  static constexpr Order kOrder = Order::halves;
  static constexpr int kSteps = 1, kUnitBytes = kStepGroups * T::kBytes;

  explicit LoadBlocks(const Matrix&) {}

  // Bytes of 16 where the bits of a (low half) and b are set, from bit 16 * kHalf on.
  template <int kHalf>
  static __m256i fifth_bits(const uint8_t* a, const uint8_t* b) {
    int32_t bits_a, bits_b = 0;
    __builtin_memcpy(&bits_a, a, 4);
    if (b != nullptr) __builtin_memcpy(&bits_b, b, 4);
    const __m256i words = _mm256_set_m128i(_mm_set1_epi32(bits_b), _mm_set1_epi32(bits_a));
    constexpr int64_t kOnes = 0x0101010101010101;
    const __m256i bytes =
        _mm256_shuffle_epi8(words, _mm256_set_epi64x((2 * kHalf + 1) * kOnes, 2 * kHalf * kOnes,
                                                     (2 * kHalf + 1) * kOnes, 2 * kHalf * kOnes));
    const __m256i each = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201));
    const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, each), each);
    return _mm256_and_si256(set, _mm256_set1_epi8(16));
  }

  template <bool kPartial>
  void load(const Row& row, int step, int, Step* out) const {
    const uint8_t* p = row.p + static_cast<size_t>(step) * (2 * T::kBytes);
    const uint8_t* p2 = kPartial ? nullptr : p + T::kBytes;
    const __m256i nibbles = _mm256_set_m128i(
        kPartial ? _mm_setzero_si128() : load_16(p2 + kNibbles), load_16(p + kNibbles));
    out->q[0] = low_nibbles(nibbles);
    out->q[1] = high_nibbles(nibbles);
    if constexpr (kFifthBits >= 0) {
      const uint8_t* bits2 = kPartial ? nullptr : p2 + kFifthBits;
      out->q[0] = _mm256_or_si256(out->q[0], fifth_bits<0>(p + kFifthBits, bits2));
      out->q[1] = _mm256_or_si256(out->q[1], fifth_bits<1>(p + kFifthBits, bits2));
    }
    const TwoBlocks numbers(p, p2);
    out->scale = numbers.template number<0>();
    if constexpr (T::kHasMin) out->min = numbers.template number<1>();
  }
};

struct LoadIq4Nl : LoadBlocks<Iq4Nl, 2, -1> {
  using LoadBlocks::LoadBlocks;

  template <bool kPartial>
  void load(const Row& row, int step, int groups, Step* out) const {
    LoadBlocks::load<kPartial>(row, step, groups, out);
    for (__m256i& q : out->q) q = _mm256_xor_si256(lookup(kIq4Nl, q), _mm256_set1_epi8(-128));
  }
};

struct LoadQ8_0 {
  static constexpr Order kOrder = Order::halves;
  static constexpr int kSteps = 1, kUnitBytes = kStepGroups * Q8_0::kBytes;

  explicit LoadQ8_0(const Matrix&) {}

  template <bool kPartial>
  void load(const Row& row, int step, int, Step* out) const {
    const uint8_t* p = row.p + static_cast<size_t>(step) * (2 * Q8_0::kBytes);
    const uint8_t* p2 = kPartial ? nullptr : p + Q8_0::kBytes;
    to_halves(load32(p + 2), kPartial ? _mm256_setzero_si256() : load32(p2 + 2), out);
    out->scale = TwoBlocks(p, p2).number<0>();
  }
};

// Lanes of groups 2i and 2i + 1 out of eight.
inline __m256 lanes_of_groups(__m256 eight, int i) {
  const __m256i index =
      _mm256_add_epi32(_mm256_set_epi32(1, 1, 1, 1, 0, 0, 0, 0), _mm256_set1_epi32(2 * i));
  return _mm256_permutevar8x32_ps(eight, index);
}
// Lanes of subgroups 4i to 4i + 3 out of eight.
inline __m256 lanes_of_subgroups(__m256 eight, int i) {
  const __m256i index =
      _mm256_add_epi32(_mm256_set_epi32(3, 3, 2, 2, 1, 1, 0, 0), _mm256_set1_epi32(4 * i));
  return _mm256_permutevar8x32_ps(eight, index);
}

// q4_k and q5_k.
template <class T>
struct LoadK4 {
  static constexpr Order kOrder = Order::halves;
  static constexpr int kSteps = 4, kUnitBytes = T::kBytes;

  explicit LoadK4(const Matrix&) {}

  template <bool kPartial>
  void load(const Row& row, int unit, int, Step* out) const {
    constexpr bool kFive = T::kBytes == Q5_K::kBytes;
    const uint8_t* p = row.p + static_cast<size_t>(unit) * T::kBytes;
    const __m128i packed = k_scales_mins(p + 4);
    const __m256 scales = _mm256_mul_ps(_mm256_set1_ps(load_f16(p)),
                                        _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(packed)));
    const __m256 mins =
        _mm256_mul_ps(_mm256_set1_ps(-load_f16(p + 2)),
                      _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_unpackhi_epi64(packed, packed))));
    for (int i = 0; i < 4; ++i) {
      const __m256i v = load32(p + (kFive ? 48 : 16) + 32 * i);
      __m256i a = low_nibbles(v), b = high_nibbles(v);
      if constexpr (kFive) {
        const __m256i high = load32(p + 16);
        const auto join = [&](__m256i q, int bit) {
          const __m256i mask = _mm256_set1_epi8(static_cast<char>(1 << bit));
          const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(high, mask), mask);
          return _mm256_or_si256(q, _mm256_and_si256(set, _mm256_set1_epi8(16)));
        };
        a = join(a, 2 * i);
        b = join(b, 2 * i + 1);
      }
      to_halves(a, b, &out[i]);
      out[i].scale = lanes_of_groups(scales, i);
      out[i].min = lanes_of_groups(mins, i);
    }
  }
};

struct LoadQ6K {
  static constexpr Order kOrder = Order::sixteens;
  static constexpr int kSteps = 4, kUnitBytes = Q6_K::kBytes;

  explicit LoadQ6K(const Matrix&) {}

  template <bool kPartial>
  void load(const Row& row, int unit, int, Step* out) const {
    const uint8_t* p = row.p + static_cast<size_t>(unit) * Q6_K::kBytes;
    const __m256 d = _mm256_set1_ps(load_f16(p + 208));
    for (int half = 0; half < 2; ++half) {
      const __m128i s = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 192 + 8 * half));
      const __m256 scales = _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(s)));
      const __m256i v0 = load32(p + 64 * half), v1 = load32(p + 64 * half + 32);
      const __m256i h = load32(p + 128 + 32 * half);
      const auto join = [](__m256i low, __m256i high) {
        return _mm256_or_si256(low, _mm256_and_si256(high, _mm256_set1_epi8(0x30)));
      };
      Step* o = out + 2 * half;
      to_sixteens(join(low_nibbles(v0), _mm256_slli_epi16(h, 4)),
                  join(low_nibbles(v1), _mm256_slli_epi16(h, 2)), &o[0]);
      to_sixteens(join(high_nibbles(v0), h), join(high_nibbles(v1), _mm256_srli_epi16(h, 2)),
                  &o[1]);
      o[0].scale = lanes_of_subgroups(scales, 0);
      o[1].scale = lanes_of_subgroups(scales, 1);
    }
  }
};

// q2_k and q3_k: two bits of each integer in qs, the third of q3_k in hmask.
template <class T>
struct LoadK2 {
  static constexpr Order kOrder = Order::sixteens;
  static constexpr int kSteps = 4, kUnitBytes = T::kBytes;

  explicit LoadK2(const Matrix&) {}

  template <bool kPartial>
  void load(const Row& row, int unit, int, Step* out) const {
    constexpr bool kThree = T::kBytes == Q3_K::kBytes;
    const uint8_t* p = row.p + static_cast<size_t>(unit) * T::kBytes;
    const __m256i three = _mm256_set1_epi8(3);
    const __m256 d = _mm256_set1_ps(load_f16(p + (kThree ? 108 : 80)));
    __m256i hmask = _mm256_setzero_si256();
    __m128i scales, mins = _mm_setzero_si128();
    if constexpr (kThree) {
      hmask = load32(p);
      scales = q3_k_scales(p + 96);
    } else {
      const __m128i both = load_16(p), fifteen = _mm_set1_epi8(15);
      scales = _mm_and_si128(both, fifteen);
      mins = _mm_and_si128(_mm_srli_epi16(both, 4), fifteen);
    }
    for (int half = 0; half < 2; ++half) {
      const auto eight = [&](__m128i bytes, __m256 factor) {
        const __m128i these = half == 0 ? bytes : _mm_unpackhi_epi64(bytes, bytes);
        return _mm256_mul_ps(factor, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(these)));
      };
      const __m256 scale = eight(scales, d);
      const __m256i v = load32(p + (kThree ? 32 : 16) + 32 * half);
      const auto group = [&](int i) {
        const __m256i q = _mm256_and_si256(_mm256_srli_epi16(v, 2 * i), three);
        if constexpr (!kThree) return q;
        const __m256i bit = _mm256_set1_epi8(static_cast<char>(1 << (4 * half + i)));
        const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(hmask, bit), bit);
        return _mm256_or_si256(q, _mm256_and_si256(set, _mm256_set1_epi8(4)));
      };
      Step* o = out + 2 * half;
      to_sixteens(group(0), group(1), &o[0]);
      to_sixteens(group(2), group(3), &o[1]);
      for (int i = 0; i < 2; ++i) o[i].scale = lanes_of_subgroups(scale, i);
      if constexpr (T::kHasMin) {
        const __m256 min = eight(mins, _mm256_set1_ps(-load_f16(p + 82)));
        for (int i = 0; i < 2; ++i) o[i].min = lanes_of_subgroups(min, i);
      }
    }
  }
};

// Number of MLX's scales for the groups of a step, by lanes.
template <bool kPartial>
inline __m256 mlx_scales(const Matrix& w, const uint8_t* p, int step) {
  const size_t weight = static_cast<size_t>(step) * kStep;
  return two_groups(
      load_number(p, w.scale_number, weight / w.group_size),
      kPartial ? 0.0f : load_number(p, w.scale_number, (weight + kGroup) / w.group_size));
}

// 64 nibbles in the order pairs.
template <bool kPartial>
inline void load_pairs(const uint8_t* p, int step, Step* out) {
  const uint8_t* q = p + static_cast<size_t>(step) * 32;
  const __m256i v = kPartial ? _mm256_zextsi128_si256(load_16(q)) : load32(q);
  out->q[0] = low_nibbles(v);
  out->q[1] = high_nibbles(v);
}

struct LoadAffine4 {
  static constexpr Order kOrder = Order::pairs;
  static constexpr int kSteps = 1, kUnitBytes = kStep / 2;

  explicit LoadAffine4(const Matrix& m) : w(m) {}

  template <bool kPartial>
  void load(const Row& row, int step, int, Step* out) const {
    load_pairs<kPartial>(row.p, step, out);
    out->scale = mlx_scales<kPartial>(w, row.scales, step);
    out->min = mlx_scales<kPartial>(w, row.biases, step);
  }

  const Matrix& w;
};

struct LoadAffine8 {
  static constexpr Order kOrder = Order::halves;
  static constexpr int kSteps = 1, kUnitBytes = kStep;

  explicit LoadAffine8(const Matrix& m) : w(m) {}

  template <bool kPartial>
  void load(const Row& row, int step, int, Step* out) const {
    const uint8_t* p = row.p + static_cast<size_t>(step) * kStep;
    const __m256i sign = _mm256_set1_epi8(-128);
    to_halves(_mm256_xor_si256(load32(p), sign),
              kPartial ? _mm256_setzero_si256() : _mm256_xor_si256(load32(p + 32), sign), out);
    out->scale = mlx_scales<kPartial>(w, row.scales, step);
    // The bytes are 128 less than the integers.
    out->min = _mm256_fmadd_ps(out->scale, _mm256_set1_ps(128.0f),
                               mlx_scales<kPartial>(w, row.biases, step));
  }

  const Matrix& w;
};

struct LoadMxFp4 {
  static constexpr Order kOrder = Order::pairs;
  static constexpr int kSteps = 1, kUnitBytes = kStep / 2;

  explicit LoadMxFp4(const Matrix&) {}

  template <bool kPartial>
  void load(const Row& row, int step, int, Step* out) const {
    load_pairs<kPartial>(row.p, step, out);
    for (__m256i& q : out->q) q = lookup(kFp4, q);
    const uint8_t* e = row.scales + static_cast<size_t>(step) * 2;
    out->scale = two_groups(0.5f * e8m0_to_f32(e[0]), kPartial ? 0.0f : 0.5f * e8m0_to_f32(e[1]));
  }
};

struct LoadMxFp8 {
  static constexpr Order kOrder = Order::halves;
  static constexpr int kSteps = 1, kUnitBytes = kStep;

  explicit LoadMxFp8(const Matrix&) {}

  template <bool kPartial>
  void load(const Row& row, int step, int, Step* out) const {
    const uint8_t* p = row.p + static_cast<size_t>(step) * kStep;
    to_halves(load32(p), kPartial ? _mm256_setzero_si256() : load32(p + 32), out);
    const uint8_t* e = row.scales + static_cast<size_t>(step) * 2;
    out->scale = two_groups(e8m0_to_f32(e[0]), kPartial ? 0.0f : e8m0_to_f32(e[1]));
  }
};

// Integers of 2, 3, 5 or 6 bits, one after another.
template <int kBits>
struct LoadAffineBits {
  static constexpr Order kOrder = Order::halves;
  static constexpr int kSteps = 1, kUnitBytes = kStep * kBits / 8;
  static constexpr int kGroupBytes = kGroup * kBits / 8;

  explicit LoadAffineBits(const Matrix& m) : w(m) {}

  // The bytes of a group's half, 0 or 1, and no byte of what follows the group. Bytes of the half
  // begin at kFirst<kHalf>.
  template <int kHalf>
  static constexpr int kFirst =
      kGroupBytes < 16 ? kHalf * kGroupBytes / 2 : kHalf * (16 - kGroupBytes / 2);
  template <int kHalf>
  static __m128i bytes_of(const uint8_t* group) {
    if constexpr (kGroupBytes >= 16) return load_16(group + kHalf * (kGroupBytes - 16));
    int32_t rest = 0;
    if constexpr (kGroupBytes > 8) __builtin_memcpy(&rest, group + 8, 4);
    return _mm_insert_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(group)), rest, 2);
  }

  template <int kHalf, bool kPartial>
  static __m256i half(const uint8_t* group) {
    static constexpr BitWords<kBits> kLow(0, kFirst<kHalf>), kHigh(8, kFirst<kHalf>);
    const __m256i v =
        _mm256_set_m128i(kPartial ? _mm_setzero_si128() : bytes_of<kHalf>(group + kGroupBytes),
                         bytes_of<kHalf>(group));
    const auto eight = [&](const BitWords<kBits>& words) {
      const __m256i index = _mm256_broadcastsi128_si256(load_16(words.bytes));
      const __m256i factor = _mm256_broadcastsi128_si256(
          _mm_loadu_si128(reinterpret_cast<const __m128i*>(words.factors)));
      return _mm256_srli_epi16(_mm256_mullo_epi16(_mm256_shuffle_epi8(v, index), factor),
                               16 - kBits);
    };
    return _mm256_packus_epi16(eight(kLow), eight(kHigh));
  }

  template <bool kPartial>
  void load(const Row& row, int step, int, Step* out) const {
    const uint8_t* p = row.p + static_cast<size_t>(step) * (2 * kGroupBytes);
    out->q[0] = half<0, kPartial>(p);
    out->q[1] = half<1, kPartial>(p);
    out->scale = mlx_scales<kPartial>(w, row.scales, step);
    out->min = mlx_scales<kPartial>(w, row.biases, step);
  }

  const Matrix& w;
};

struct LoadNvFp4 {
  static constexpr Order kOrder = Order::pairs;
  static constexpr int kSteps = 1, kUnitBytes = kStep / 2;

  explicit LoadNvFp4(const Matrix&) {}

  template <bool kPartial>
  void load(const Row& row, int step, int, Step* out) const {
    load_pairs<kPartial>(row.p, step, out);
    for (__m256i& q : out->q) q = lookup(kFp4, q);
    const uint8_t* e = row.scales + static_cast<size_t>(step) * 4;
    int32_t four = 0;
    __builtin_memcpy(&four, e, kPartial ? 2 : 4);
    // Each twice: the lanes of a subgroup.
    const __m256i v = _mm256_cvtepu8_epi32(
        _mm_shuffle_epi8(_mm_cvtsi32_si128(four),
                         _mm_setr_epi8(0, 0, 1, 1, 2, 2, 3, 3, -1, -1, -1, -1, -1, -1, -1, -1)));
    out->scale = e4m3<-1>(v);  // kFp4 is twice the values
  }
};

}  // namespace
}  // namespace mlxcpp::kernels::quant

#include "kernels/quant_loaders-inl.h"

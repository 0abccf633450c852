#include "kernels/quant_unpack_avx2.h"

// The loops for AVX2, which has no dot product of bytes: vpmaddubsw adds pairs of products to 16
// bits, vpmaddwd these to 32. Two planes are held together as 16-bit integers and multiplied by
// vpmaddwd alone, which is as many multiplications as two planes of bytes are, and no joining.

namespace mlxcpp::kernels::quant {
namespace {

using Floats = __m256;

inline Floats zero() { return _mm256_setzero_ps(); }
inline float reduce(Floats v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

// Of 16 registers.
constexpr int kVectorSums = 4, kTileRows = 4, kTwoTileRows = 6, kRealTileRows = 6;

// Keeps the compiler from summing in another order: with all of a tile's products at once it runs
// out of registers.
inline void in_this_order(__m256i& sum) { asm("" : "+x"(sum)); }

inline __m256i pairs_to_32(__m256i v) { return _mm256_madd_epi16(v, _mm256_set1_epi16(1)); }
inline __m256i load_aligned(const uint8_t* p) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
}

// ---- Packing ----

__m256 load8(const uint8_t* p, Number number, size_t i) {
  if (number == Number::f32) return _mm256_loadu_ps(reinterpret_cast<const float*>(p + 4 * i));
  const __m128i half = load_16(p + 2 * i);
  if (number == Number::f16) return _mm256_cvtph_ps(half);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

// The 32 integers of group j to their places as bytes.
template <Order kOrder>
void place(const __m256i (&v)[4], int j, uint8_t* q) {
  const __m256i a = _mm256_permute4x64_epi64(_mm256_packs_epi32(v[0], v[1]), 0xd8);
  const __m256i b = _mm256_permute4x64_epi64(_mm256_packs_epi32(v[2], v[3]), 0xd8);
  __m256i bytes = _mm256_permute4x64_epi64(_mm256_packs_epi16(a, b), 0xd8);
  if constexpr (kOrder == Order::pairs)
    bytes = _mm256_shuffle_epi8(
        bytes, _mm256_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15, 0, 2, 4, 6, 8,
                                10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15));
  __m128i first = _mm256_castsi256_si128(bytes), second = _mm256_extracti128_si256(bytes, 1);
  if constexpr (kOrder != Order::halves) {
    const __m128i whole = first;
    first = _mm_unpacklo_epi64(whole, second);
    second = _mm_unpackhi_epi64(whole, second);
  }
  _mm_store_si128(reinterpret_cast<__m128i*>(q + 16 * j), first);
  _mm_store_si128(reinterpret_cast<__m128i*>(q + kStep / 2 + 16 * j), second);
}

// Every other byte of a step's vector, from byte kOdd on, as 16-bit integers. Those of a group (or
// subgroup) stay in its lanes.
template <class T, int kOdd>
__m256i widen(__m256i q) {
  if constexpr (kSigned<T>)
    return _mm256_srai_epi16(kOdd == 0 ? _mm256_slli_epi16(q, 8) : q, 8);
  else
    return kOdd == 0 ? _mm256_and_si256(q, _mm256_set1_epi16(255)) : _mm256_srli_epi16(q, 8);
}

// The 32 integers of group j to their places as words, which is where `widen` has the weights.
template <Order kOrder>
void place_words(const __m256i (&v)[4], int j, uint8_t* words) {
  __m256i a = _mm256_permute4x64_epi64(_mm256_packs_epi32(v[0], v[1]), 0xd8);
  __m256i b = _mm256_permute4x64_epi64(_mm256_packs_epi32(v[2], v[3]), 0xd8);
  // Of eight words the even ones, then the odd ones; or, where weights alternate between the
  // vectors already, numbers 0 and 4, 2 and 6, 1 and 5, 3 and 7.
  const __m128i apart = kOrder == Order::pairs
                            ? _mm_setr_epi8(0, 1, 8, 9, 4, 5, 12, 13, 2, 3, 10, 11, 6, 7, 14, 15)
                            : _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
  a = _mm256_shuffle_epi8(a, _mm256_broadcastsi128_si256(apart));
  b = _mm256_shuffle_epi8(b, _mm256_broadcastsi128_si256(apart));
  const __m128i a0 = _mm256_castsi256_si128(a), a1 = _mm256_extracti128_si256(a, 1);
  const __m128i b0 = _mm256_castsi256_si128(b), b1 = _mm256_extracti128_si256(b, 1);
  const auto store = [&](int vector, __m128i eight) {
    _mm_store_si128(reinterpret_cast<__m128i*>(words + 32 * vector + 16 * j), eight);
  };
  if constexpr (kOrder == Order::halves) {
    store(0, _mm_unpacklo_epi64(a0, a1));
    store(1, _mm_unpackhi_epi64(a0, a1));
    store(2, _mm_unpacklo_epi64(b0, b1));
    store(3, _mm_unpackhi_epi64(b0, b1));
  } else if constexpr (kOrder == Order::sixteens) {
    store(0, _mm_unpacklo_epi64(a0, b0));
    store(1, _mm_unpackhi_epi64(a0, b0));
    store(2, _mm_unpacklo_epi64(a1, b1));
    store(3, _mm_unpackhi_epi64(a1, b1));
  } else {
    const __m128i low_a = _mm_unpacklo_epi32(a0, a1), low_b = _mm_unpacklo_epi32(b0, b1);
    const __m128i high_a = _mm_unpackhi_epi32(a0, a1), high_b = _mm_unpackhi_epi32(b0, b1);
    store(0, _mm_unpacklo_epi64(low_a, low_b));
    store(1, _mm_unpackhi_epi64(low_a, low_b));
    store(2, _mm_unpacklo_epi64(high_a, high_b));
    store(3, _mm_unpackhi_epi64(high_a, high_b));
  }
}

template <Order kOrder>
void place(const __m256 (&v)[4], int j, float* q) {
  float* second = q + kStep / 2;
  const auto store = [j](float* to, __m256 a, __m256 b) {
    _mm256_store_ps(to + 16 * j, a);
    _mm256_store_ps(to + 16 * j + 8, b);
  };
  if constexpr (kOrder == Order::halves) {
    store(q, v[0], v[1]);
    store(second, v[2], v[3]);
  } else if constexpr (kOrder == Order::sixteens) {
    store(q, v[0], v[2]);
    store(second, v[1], v[3]);
  } else {
    const auto pick = [](__m256 a, __m256 b, auto odd) {
      const __m256 mixed = _mm256_shuffle_ps(a, b, odd ? 0xdd : 0x88);
      return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(mixed), 0xd8));
    };
    struct Even {
      constexpr operator bool() const { return false; }
    };
    struct Odd {
      constexpr operator bool() const { return true; }
    };
    store(q, pick(v[0], v[1], Even{}), pick(v[2], v[3], Even{}));
    store(second, pick(v[0], v[1], Odd{}), pick(v[2], v[3], Odd{}));
  }
}

// Sums of lanes within each group (or subgroup), in its first lane, others 0.
template <class T>
__m256i sums_of_lanes(__m256i v) {
  v = _mm256_add_epi32(v, _mm256_shuffle_epi32(v, 0xb1));
  if constexpr (T::kTwoScales) return _mm256_and_si256(v, _mm256_set1_epi64x(0xffffffff));
  v = _mm256_add_epi32(v, _mm256_shuffle_epi32(v, 0x4e));
  return _mm256_and_si256(v, _mm256_setr_epi32(-1, 0, 0, 0, -1, 0, 0, 0));
}

__m256i sums_of_bytes(const uint8_t* q) {
  const __m256i ones = _mm256_set1_epi8(1);
  return pairs_to_32(_mm256_add_epi16(_mm256_maddubs_epi16(ones, load_aligned(q)),
                                      _mm256_maddubs_epi16(ones, load_aligned(q + kStep / 2))));
}

__m256i sums_of_words(const uint8_t* q) {
  __m256i sums = _mm256_setzero_si256();
  for (int i = 0; i < 4; ++i) sums = _mm256_add_epi32(sums, pairs_to_32(load_aligned(q + 32 * i)));
  return sums;
}

// The largest of eight integers without sign.
uint32_t largest_of(__m256i v) {
  __m128i m = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(m));
}

template <class T, bool kTwo>
void pack_planes_step(const uint8_t* x, Number number, size_t from, int groups, uint8_t* out) {
  constexpr Planes kPlanes = kTwo ? Planes::two : Planes::one;
  constexpr float kMax = kTwo ? kTwoPlanesMax : kOnePlaneMax;
  float scales[kStepGroups] = {};
  if (groups < kStepGroups)
    for (int i = 0; i < scale_at(kPlanes); i += 32)
      _mm256_store_si256(reinterpret_cast<__m256i*>(out + i), _mm256_setzero_si256());
  for (int j = 0; j < groups; ++j) {
    __m256 v[4];
    __m256i peak = _mm256_setzero_si256();
    for (int i = 0; i < 4; ++i) {
      v[i] = load8(x, number, from + j * kGroup + 8 * i);
      // As integers, so that a NaN is larger than all.
      peak = _mm256_max_epu32(
          peak, _mm256_and_si256(_mm256_castps_si256(v[i]), _mm256_set1_epi32(0x7fffffff)));
    }
    const uint32_t bits = largest_of(peak);
    const float largest = float_of_bits(bits);
    float scale = largest / kMax, inverse = kMax / largest;
    if (bits >= 0x7f800000 || largest < kSmallestPeak) {
      scale = bits >= 0x7f800000 ? float_of_bits(0x7fc00000) : 0.0f;
      inverse = 0.0f;
      for (__m256& f : v) f = _mm256_setzero_ps();
    }
    scales[j] = scale;
    __m256i q[4];
    for (int i = 0; i < 4; ++i)
      q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], _mm256_set1_ps(inverse)));
    if constexpr (kTwo)
      place_words<Loader<T>::kOrder>(q, j, out);
    else
      place<Loader<T>::kOrder>(q, j, out);
  }
  const __m256 scale = two_groups(scales[0], scales[1]);
  _mm256_store_ps(reinterpret_cast<float*>(out + scale_at(kPlanes)), scale);
  const __m256i sums = sums_of_lanes<T>(kTwo ? sums_of_words(out) : sums_of_bytes(out));
  if constexpr (T::kHasMin)
    _mm256_store_ps(reinterpret_cast<float*>(out + sums_at(kPlanes)),
                    _mm256_mul_ps(_mm256_cvtepi32_ps(sums), scale));
  else
    _mm256_store_si256(reinterpret_cast<__m256i*>(out + sums_at(kPlanes)),
                       _mm256_mullo_epi32(sums, _mm256_set1_epi32(-kByteOffset<T>)));
}

template <class T>
void pack_real_step(const uint8_t* x, Number number, size_t from, int groups, uint8_t* out) {
  auto* q = reinterpret_cast<float*>(out);
  auto* sums = reinterpret_cast<float*>(out + kRealSums);
  _mm256_store_ps(sums, zero());
  for (int j = 0; j < kStepGroups; ++j) {
    __m256 v[4] = {zero(), zero(), zero(), zero()};
    if (j < groups)
      for (int i = 0; i < 4; ++i) v[i] = load8(x, number, from + j * kGroup + 8 * i);
    place<Loader<T>::kOrder>(v, j, q);
    if constexpr (T::kHasMin) {
      sums[4 * j] = reduce(_mm256_add_ps(v[0], v[1]));
      sums[4 * j + 2] = reduce(_mm256_add_ps(v[2], v[3]));
    }
  }
}

// ---- A few rows of activations ----

// Eight bytes of a step, from byte 8 * kPart on, as floats, the offset taken off.
template <class T, int kPart>
__m256 to_floats(__m256i v) {
  __m128i q = kPart < 2 ? _mm256_castsi256_si128(v) : _mm256_extracti128_si256(v, 1);
  if constexpr (kPart % 2 != 0) q = _mm_unpackhi_epi64(q, q);
  if constexpr (kFloats<T>) return e4m3<0>(_mm256_cvtepu8_epi32(q));
  if constexpr (!kSigned<T> && T::kOffset == 0) return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(q));
  if constexpr (!kSigned<T>) q = _mm_sub_epi8(q, _mm_set1_epi8(static_cast<char>(T::kOffset)));
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q));
}

// Lanes 2 * kPart and the next, each four times.
template <int kPart>
__m256 spread_lanes(__m256 v) {
  return lanes_of_groups(v, kPart);
}

template <class T, int kPart>
__m256 add_real_part(const Step& w, const float* x, __m256 sum) {
  __m256 v = _mm256_mul_ps(to_floats<T, kPart>(w.q[0]), _mm256_load_ps(x + 8 * kPart));
  v = _mm256_fmadd_ps(to_floats<T, kPart>(w.q[1]), _mm256_load_ps(x + kStep / 2 + 8 * kPart), v);
  return _mm256_fmadd_ps(v, spread_lanes<kPart>(w.scale), sum);
}

// The products of a step with a plane, sums of four in 32 bits.
template <class T>
__m256i dot_step(const Step& w, const uint8_t* x) {
  const __m256i x0 = load_aligned(x), x1 = load_aligned(x + kStep / 2);
  if constexpr (kSigned<T>) {
    const auto dot = [](__m256i q, __m256i v) {
      return pairs_to_32(_mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(v, q)));
    };
    return _mm256_add_epi32(dot(w.q[0], x0), dot(w.q[1], x1));
  } else {
    // Four products of at most 63 * 127 fit 16 bits.
    return pairs_to_32(
        _mm256_add_epi16(_mm256_maddubs_epi16(w.q[0], x0), _mm256_maddubs_epi16(w.q[1], x1)));
  }
}

// The same with words.
template <class T>
__m256i dot_words(const Step& w, const uint8_t* x) {
  __m256i d = _mm256_madd_epi16(widen<T, 0>(w.q[0]), load_aligned(x));
  d = _mm256_add_epi32(d, _mm256_madd_epi16(widen<T, 1>(w.q[0]), load_aligned(x + 32)));
  __m256i e = _mm256_madd_epi16(widen<T, 0>(w.q[1]), load_aligned(x + 64));
  e = _mm256_add_epi32(e, _mm256_madd_epi16(widen<T, 1>(w.q[1]), load_aligned(x + 96)));
  return _mm256_add_epi32(d, e);
}

// sum += w * x of one step.
template <class T, Planes kPlanes>
__m256 add_step(const Step& w, const uint8_t* x, __m256 sum) {
  if constexpr (kPlanes == Planes::real) {
    const auto* p = reinterpret_cast<const float*>(x);
    sum = add_real_part<T, 0>(w, p, sum);
    sum = add_real_part<T, 1>(w, p, sum);
    sum = add_real_part<T, 2>(w, p, sum);
    sum = add_real_part<T, 3>(w, p, sum);
    if constexpr (T::kHasMin) sum = _mm256_fmadd_ps(w.min, _mm256_load_ps(p + kRealSums / 4), sum);
    return sum;
  } else {
    __m256i d = kPlanes == Planes::two ? dot_words<T>(w, x) : dot_step<T>(w, x);
    if constexpr (!T::kHasMin && kByteOffset<T> != 0)
      d = _mm256_add_epi32(d, load_aligned(x + sums_at(kPlanes)));
    const auto* scale = reinterpret_cast<const float*>(x + scale_at(kPlanes));
    sum =
        _mm256_fmadd_ps(_mm256_cvtepi32_ps(d), _mm256_mul_ps(w.scale, _mm256_load_ps(scale)), sum);
    if constexpr (T::kHasMin) sum = _mm256_fmadd_ps(w.min, _mm256_load_ps(scale + kLanes), sum);
    return sum;
  }
}

// ---- Many rows ----

void transpose(__m256i (&v)[8]) {
  __m256i t[8];
  for (int i = 0; i < 8; i += 4) {
    const __m256i a = _mm256_unpacklo_epi32(v[i], v[i + 1]);
    const __m256i b = _mm256_unpackhi_epi32(v[i], v[i + 1]);
    const __m256i c = _mm256_unpacklo_epi32(v[i + 2], v[i + 3]);
    const __m256i d = _mm256_unpackhi_epi32(v[i + 2], v[i + 3]);
    t[i] = _mm256_unpacklo_epi64(a, c);
    t[i + 1] = _mm256_unpackhi_epi64(a, c);
    t[i + 2] = _mm256_unpacklo_epi64(b, d);
    t[i + 3] = _mm256_unpackhi_epi64(b, d);
  }
  // t[4i + k] holds rows 4i to 4i+3 of columns k and 4+k.
  for (int k = 0; k < 4; ++k) {
    v[k] = _mm256_permute2x128_si256(t[k], t[4 + k], 0x20);
    v[4 + k] = _mm256_permute2x128_si256(t[k], t[4 + k], 0x31);
  }
}

void store_lanes(__m256i v, void* p) { _mm256_store_si256(static_cast<__m256i*>(p), v); }

// One scale per group or subgroup of eight rows, from vectors by lanes.
template <class T>
void store_scales(const __m256 (&rows)[8], float* out) {
  __m256i v[8];
  for (int r = 0; r < 8; ++r) v[r] = _mm256_castps_si256(rows[r]);
  transpose(v);
  constexpr int kEach = T::kTwoScales ? 2 : 4;
  for (int i = 0; i < 8 / kEach; ++i) store_lanes(v[i * kEach], out + i * kPanelRows);
}

template <class T, int kPart>
void store_real_part(const Step (&rows)[8], int z, float* out) {
  __m256i v[8];
  for (int r = 0; r < 8; ++r) {
    __m256 f = _mm256_mul_ps(to_floats<T, kPart>(rows[r].q[z]), spread_lanes<kPart>(rows[r].scale));
    if constexpr (T::kHasMin) f = _mm256_add_ps(f, spread_lanes<kPart>(rows[r].min));
    v[r] = _mm256_castps_si256(f);
  }
  transpose(v);
  for (int i = 0; i < 8; ++i) store_lanes(v[i], out + (8 * kPart + i) * kPanelRows);
}

// A step of eight weight rows, the first or second half of a panel's.
template <class T, Planes kPlanes>
void store_panel_step(const Step (&rows)[8], size_t step, int half, const Panel& panel) {
  uint8_t* to = panel.q + step * panel_step(kPlanes) + 32 * half;
  for (int z = 0; z < 2; ++z) {
    if constexpr (kPlanes == Planes::real) {
      auto* out = reinterpret_cast<float*>(panel.q + step * kRealPanelStep) + 8 * half +
                  z * (kStep / 2) * kPanelRows;
      store_real_part<T, 0>(rows, z, out);
      store_real_part<T, 1>(rows, z, out);
      store_real_part<T, 2>(rows, z, out);
      store_real_part<T, 3>(rows, z, out);
    } else {
      const auto store = [&](auto of_row) {
        __m256i v[8];
        for (int r = 0; r < 8; ++r) v[r] = of_row(rows[r].q[z]);
        transpose(v);
        for (int i = 0; i < 8; ++i, to += 4 * kPanelRows) store_lanes(v[i], to);
      };
      if constexpr (kPlanes == Planes::two) {
        const __m256i offset = _mm256_set1_epi16(kByteOffset<T>);
        store([&](__m256i q) { return _mm256_sub_epi16(widen<T, 0>(q), offset); });
        store([&](__m256i q) { return _mm256_sub_epi16(widen<T, 1>(q), offset); });
      } else {
        store([](__m256i q) { return q; });
      }
    }
  }
  if constexpr (kPlanes != Planes::real) {
    __m256 v[8];
    for (int r = 0; r < 8; ++r) v[r] = rows[r].scale;
    store_scales<T>(v, panel.scales + step * kPanelScales + 8 * half);
    if constexpr (T::kHasMin) {
      for (int r = 0; r < 8; ++r) v[r] = rows[r].min;
      store_scales<T>(v, panel.mins + step * kPanelScales + 8 * half);
    }
  }
}

template <int kM>
void store_tile(const Tile& t, const __m256 (&sums)[kM][2]) {
  for (int i = 0; i < kM; ++i) {
    float* y = t.y + i * t.ldy;
    if (t.columns == kPanelRows) {
      _mm256_storeu_ps(y, sums[i][0]);
      _mm256_storeu_ps(y + 8, sums[i][1]);
    } else {
      alignas(32) float row[kPanelRows];
      _mm256_store_ps(row, sums[i][0]);
      _mm256_store_ps(row + 8, sums[i][1]);
      for (size_t c = 0; c < t.columns; ++c) y[c] = row[c];
    }
  }
}

// kM activation rows times kCount 32-bit lanes of the panel, from the q and x of the first on, all
// of one group (or subgroup), added to d.
template <class T, int kCount, int kM>
void add_lanes(const uint8_t* q, const uint8_t* x, size_t stride, __m256i (&d)[kM][2]) {
  // So many sums of a pair fit 16 bits.
  constexpr int kFit = 32767 / (2 * 127 * (kSigned<T> ? 128 : T::kLargest));
  constexpr int kDepth = kFit >= kCount ? kCount : kFit >= 2 ? 2 : 1;
  for (int from = 0; from < kCount; from += kDepth) {
    __m256i s[kM][2];
    for (auto& row : s) row[0] = row[1] = _mm256_setzero_si256();
    for (int k = from; k < from + kDepth; ++k) {
      const __m256i w0 = load_aligned(q + k * (4 * kPanelRows));
      const __m256i w1 = load_aligned(q + k * (4 * kPanelRows) + 32);
#pragma GCC unroll 4
      for (int i = 0; i < kM; ++i) {
        int32_t four;
        __builtin_memcpy(&four, x + i * stride + k * 4, 4);
        const __m256i b = _mm256_set1_epi32(four);
        if constexpr (kSigned<T>) {
          s[i][0] = _mm256_maddubs_epi16(_mm256_abs_epi8(w0), _mm256_sign_epi8(b, w0));
          s[i][1] = _mm256_maddubs_epi16(_mm256_abs_epi8(w1), _mm256_sign_epi8(b, w1));
        } else {
          s[i][0] = _mm256_add_epi16(s[i][0], _mm256_maddubs_epi16(w0, b));
          s[i][1] = _mm256_add_epi16(s[i][1], _mm256_maddubs_epi16(w1, b));
          in_this_order(s[i][0]);
          in_this_order(s[i][1]);
        }
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < kM; ++i)
      for (int v = 0; v < 2; ++v) d[i][v] = _mm256_add_epi32(d[i][v], pairs_to_32(s[i][v]));
  }
}

// kM activation rows times the panel, of words.
template <class T, int kM>
void multiply_words_tile(const Panel& panel, const uint8_t* packed, size_t stride, int groups,
                         const Tile& tile) {
  constexpr int kSub = T::kTwoScales ? 2 : 1;  // parts of a group with a scale each
  constexpr int kCount = 4 / kSub;             // 32-bit lanes of such a part, in each vector
  __m256 sums[kM][2];
  for (auto& row : sums) row[0] = row[1] = zero();
  for (int g = 0; g < groups; ++g) {
    const size_t step = static_cast<size_t>(g) / kStepGroups;
    const uint8_t* x = packed + step * step_bytes(Planes::two);
    for (int sub = 0; sub < kSub; ++sub) {
      const int lane = g % kStepGroups * 4 + sub * kCount;
      const uint8_t* q = panel.q + step * panel_step(Planes::two) + lane * (4 * kPanelRows);
      const uint8_t* a = x + lane * 4;
      __m256i d[kM][2];
      for (auto& row : d) row[0] = row[1] = _mm256_setzero_si256();
      for (int v = 0; v < 4; ++v, q += kLanes * (4 * kPanelRows), a += kVectorBytes) {
#pragma GCC unroll 4
        for (int k = 0; k < kCount; ++k) {
          const __m256i w0 = load_aligned(q + k * (4 * kPanelRows));
          const __m256i w1 = load_aligned(q + k * (4 * kPanelRows) + 32);
#pragma GCC unroll 6
          for (int i = 0; i < kM; ++i) {
            int32_t two;
            __builtin_memcpy(&two, a + i * stride + k * 4, 4);
            const __m256i b = _mm256_set1_epi32(two);
            d[i][0] = _mm256_add_epi32(d[i][0], _mm256_madd_epi16(w0, b));
            d[i][1] = _mm256_add_epi32(d[i][1], _mm256_madd_epi16(w1, b));
            in_this_order(d[i][0]);
            in_this_order(d[i][1]);
          }
        }
      }
      const size_t at = step * kPanelScales + (g % kStepGroups * kSub + sub) * kPanelRows;
#pragma GCC unroll 6
      for (int i = 0; i < kM; ++i) {
        const auto* scales = reinterpret_cast<const float*>(x + i * stride + scale_at(Planes::two));
        const __m256 scale = _mm256_set1_ps(scales[lane]);
        for (int v = 0; v < 2; ++v) {
          sums[i][v] = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(d[i][v]), scale),
                                       _mm256_load_ps(panel.scales + at + 8 * v), sums[i][v]);
          if constexpr (T::kHasMin)
            sums[i][v] = _mm256_fmadd_ps(_mm256_load_ps(panel.mins + at + 8 * v),
                                         _mm256_set1_ps(scales[kLanes + lane]), sums[i][v]);
        }
      }
    }
  }
  store_tile(tile, sums);
}

// kM activation rows times the panel, of bytes.
template <class T, int kM>
void multiply_bytes_tile(const Panel& panel, const uint8_t* packed, size_t stride, int groups,
                         const Tile& tile) {
  constexpr Planes kPlanes = Planes::one;
  constexpr int kSub = T::kTwoScales ? 2 : 1;  // parts of a group with a scale each
  constexpr int kCount = 4 / kSub;             // 32-bit lanes of such a part, in each of q[0], q[1]
  __m256 sums[kM][2];
  for (auto& row : sums) row[0] = row[1] = zero();
  for (int g = 0; g < groups; ++g) {
    const size_t step = static_cast<size_t>(g) / kStepGroups;
    const uint8_t* x = packed + step * step_bytes(kPlanes);
    const uint8_t* q = panel.q + step * panel_step(kPlanes);
    for (int sub = 0; sub < kSub; ++sub) {
      const int lane = g % kStepGroups * 4 + sub * kCount;
      __m256i d[kM][2];
      for (auto& row : d) row[0] = row[1] = _mm256_setzero_si256();
      for (int z = 0; z < 2; ++z)
        add_lanes<T, kCount, kM>(q + (z * kLanes + lane) * (4 * kPanelRows),
                                 x + z * (kStep / 2) + lane * 4, stride, d);
      const size_t at = step * kPanelScales + (g % kStepGroups * kSub + sub) * kPanelRows;
      for (int i = 0; i < kM; ++i) {
        const uint8_t* row = x + i * stride;
        const __m256 scale =
            _mm256_set1_ps(reinterpret_cast<const float*>(row + scale_at(kPlanes))[lane]);
        for (int v = 0; v < 2; ++v) {
          if constexpr (!T::kHasMin && kByteOffset<T> != 0)
            d[i][v] = _mm256_add_epi32(
                d[i][v],
                _mm256_set1_epi32(reinterpret_cast<const int32_t*>(row + sums_at(kPlanes))[lane]));
          sums[i][v] = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(d[i][v]), scale),
                                       _mm256_load_ps(panel.scales + at + 8 * v), sums[i][v]);
          if constexpr (T::kHasMin)
            sums[i][v] = _mm256_fmadd_ps(
                _mm256_load_ps(panel.mins + at + 8 * v),
                _mm256_set1_ps(reinterpret_cast<const float*>(row + sums_at(kPlanes))[lane]),
                sums[i][v]);
        }
      }
    }
  }
  store_tile(tile, sums);
}

template <class T, Planes kPlanes, int kM>
void multiply_tile(const Panel& panel, const uint8_t* packed, size_t stride, int groups,
                   const Tile& tile) {
  if constexpr (kPlanes == Planes::two)
    multiply_words_tile<T, kM>(panel, packed, stride, groups, tile);
  else
    multiply_bytes_tile<T, kM>(panel, packed, stride, groups, tile);
}

template <int kM>
void multiply_real_tile(const Panel& panel, const uint8_t* packed, size_t stride, int groups,
                        const Tile& tile) {
  __m256 sums[kM][2];
  for (auto& row : sums) row[0] = row[1] = zero();
  for (int g = 0; g < groups; ++g) {
    const size_t step = static_cast<size_t>(g) / kStepGroups;
    for (int z = 0; z < 2; ++z) {
      const int from = z * (kStep / 2) + g % kStepGroups * 16;
      const auto* w =
          reinterpret_cast<const float*>(panel.q + step * kRealPanelStep) + from * kPanelRows;
      const auto* x = reinterpret_cast<const float*>(packed + step * kRealBytes) + from;
      for (int k = 0; k < 16; ++k) {
        const __m256 w0 = _mm256_load_ps(w + k * kPanelRows);
        const __m256 w1 = _mm256_load_ps(w + k * kPanelRows + 8);
#pragma GCC unroll 6
        for (int i = 0; i < kM; ++i) {
          const __m256 b = _mm256_set1_ps(x[i * (stride / sizeof(float)) + k]);
          sums[i][0] = _mm256_fmadd_ps(w0, b, sums[i][0]);
          sums[i][1] = _mm256_fmadd_ps(w1, b, sums[i][1]);
        }
      }
    }
  }
  store_tile(tile, sums);
}

}  // namespace
}  // namespace mlxcpp::kernels::quant

#include "kernels/quant_loops-inl.h"

namespace mlxcpp::kernels::quant {

const Loops& avx2_loops() {
  static constexpr Loops kLoops{packed_bytes, pack, scratch_bytes, multiply, convert};
  return kLoops;
}

}  // namespace mlxcpp::kernels::quant

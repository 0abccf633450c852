#include "kernels/quant_unpack_avx512.h"

// The loops for AVX-512 with VNNI. Weights become bytes without sign, activations bytes with sign,
// so that vpdpbusd multiplies 64 pairs at a time. An offset of the weights is taken off as that
// many times the sum of the activations, in integers, which is exact.

namespace mlxcpp::kernels::quant {
namespace {

using Floats = __m512;

inline Floats zero() { return _mm512_setzero_ps(); }
inline float reduce(Floats v) { return _mm512_reduce_add_ps(v); }

// Of 32 registers.
constexpr int kVectorSums = 8, kTileRows = 6, kTwoTileRows = 6, kRealTileRows = 12;

// ---- Packing ----

__m512 load16(const uint8_t* p, Number number, size_t i) {
  if (number == Number::f32) return _mm512_loadu_ps(p + 4 * i);
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 2 * i));
  if (number == Number::f16) return _mm512_cvtph_ps(half);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

constexpr Dwords kEven{{0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30}};
constexpr Dwords kOdd{{1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31}};

// Group j of a step, elements 0 to 15 in a and the others in b, to its place.
template <Order kOrder>
void place(__m512i a, __m512i b, int j, uint8_t* q) {
  __m128i first, second;
  if constexpr (kOrder == Order::pairs) {
    first = _mm512_cvtepi32_epi8(_mm512_permutex2var_epi32(a, kEven.load(), b));
    second = _mm512_cvtepi32_epi8(_mm512_permutex2var_epi32(a, kOdd.load(), b));
  } else {
    first = _mm512_cvtepi32_epi8(a);
    second = _mm512_cvtepi32_epi8(b);
    if constexpr (kOrder == Order::sixteens) {
      const __m128i whole = first;
      first = _mm_unpacklo_epi64(whole, second);
      second = _mm_unpackhi_epi64(whole, second);
    }
  }
  _mm_store_si128(reinterpret_cast<__m128i*>(q + 16 * j), first);
  _mm_store_si128(reinterpret_cast<__m128i*>(q + 64 + 16 * j), second);
}

template <Order kOrder>
void place(__m512 a, __m512 b, int j, float* q) {
  __m512 first = a, second = b;
  if constexpr (kOrder == Order::pairs) {
    first = _mm512_permutex2var_ps(a, kEven.load(), b);
    second = _mm512_permutex2var_ps(a, kOdd.load(), b);
  } else if constexpr (kOrder == Order::sixteens) {
    first = _mm512_shuffle_f32x4(a, b, 0x44);
    second = _mm512_shuffle_f32x4(a, b, 0xee);
  }
  _mm512_store_ps(q + 16 * j, first);
  _mm512_store_ps(q + 64 + 16 * j, second);
}

// Sums of lanes within each group (or subgroup), in its first lane, others 0.
template <class T>
__m512i sums_of_lanes(__m512i v) {
  v = _mm512_add_epi32(v, _mm512_shuffle_epi32(v, static_cast<_MM_PERM_ENUM>(0xb1)));
  if constexpr (T::kTwoScales) return _mm512_maskz_mov_epi32(0x5555, v);
  v = _mm512_add_epi32(v, _mm512_shuffle_epi32(v, static_cast<_MM_PERM_ENUM>(0x4e)));
  return _mm512_maskz_mov_epi32(0x1111, v);
}

__m512i sums_of_bytes(const uint8_t* q) {
  const __m512i ones = _mm512_set1_epi8(1);
  const __m512i sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), ones, _mm512_load_si512(q));
  return _mm512_dpbusd_epi32(sum, ones, _mm512_load_si512(q + 64));
}

template <class T, bool kTwo>
void pack_planes_step(const uint8_t* x, Number number, size_t from, int groups, uint8_t* out) {
  constexpr Planes kPlanes = kTwo ? Planes::two : Planes::one;
  constexpr float kMax = kTwo ? kTwoPlanesMax : kOnePlaneMax;
  alignas(64) float scales[16] = {};
  if (groups < kStepGroups)
    for (int i = 0; i < scale_at(kPlanes); i += 64)
      _mm512_store_si512(out + i, _mm512_setzero_si512());
  for (int j = 0; j < groups; ++j) {
    __m512 a = load16(x, number, from + j * kGroup);
    __m512 b = load16(x, number, from + j * kGroup + 16);
    const __m512 abs = _mm512_castsi512_ps(_mm512_set1_epi32(0x7fffffff));
    // As integers, so that a NaN is larger than all.
    const uint32_t bits = _mm512_reduce_max_epu32(_mm512_max_epu32(
        _mm512_castps_si512(_mm512_and_ps(a, abs)), _mm512_castps_si512(_mm512_and_ps(b, abs))));
    const float largest = float_of_bits(bits);
    float scale = largest / kMax, inverse = kMax / largest;
    if (bits >= 0x7f800000 || largest < kSmallestPeak) {
      scale = bits >= 0x7f800000 ? float_of_bits(0x7fc00000) : 0.0f;
      inverse = 0.0f;
      a = b = _mm512_setzero_ps();
    }
    const __m512 inv = _mm512_set1_ps(inverse);
    const __m512i qa = _mm512_cvtps_epi32(_mm512_mul_ps(a, inv));
    const __m512i qb = _mm512_cvtps_epi32(_mm512_mul_ps(b, inv));
    if constexpr (kTwo) {
      const __m512i half = _mm512_set1_epi32(64);
      const __m512i ha = _mm512_srai_epi32(_mm512_add_epi32(qa, half), 7);
      const __m512i hb = _mm512_srai_epi32(_mm512_add_epi32(qb, half), 7);
      place<Loader<T>::kOrder>(ha, hb, j, out);
      place<Loader<T>::kOrder>(_mm512_sub_epi32(qa, _mm512_slli_epi32(ha, 7)),
                               _mm512_sub_epi32(qb, _mm512_slli_epi32(hb, 7)), j,
                               out + kPlaneBytes);
    } else {
      place<Loader<T>::kOrder>(qa, qb, j, out);
    }
    _mm_store_ps(scales + 4 * j, _mm_set1_ps(scale));
  }
  const __m512 scale = _mm512_load_ps(scales);
  _mm512_store_ps(out + scale_at(kPlanes), scale);
  __m512i sums = sums_of_bytes(out);
  if constexpr (kTwo)
    sums = _mm512_add_epi32(_mm512_slli_epi32(sums, 7), sums_of_bytes(out + kPlaneBytes));
  sums = sums_of_lanes<T>(sums);
  if constexpr (T::kHasMin)
    _mm512_store_ps(out + sums_at(kPlanes), _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scale));
  else
    _mm512_store_si512(out + sums_at(kPlanes),
                       _mm512_mullo_epi32(sums, _mm512_set1_epi32(-T::kOffset)));
}

template <class T>
void pack_real_step(const uint8_t* x, Number number, size_t from, int groups, uint8_t* out) {
  auto* q = reinterpret_cast<float*>(out);
  auto* sums = reinterpret_cast<float*>(out + kRealSums);
  _mm512_store_ps(sums, _mm512_setzero_ps());
  for (int j = 0; j < kStepGroups; ++j) {
    __m512 a = _mm512_setzero_ps(), b = a;
    if (j < groups) {
      a = load16(x, number, from + j * kGroup);
      b = load16(x, number, from + j * kGroup + 16);
    }
    place<Loader<T>::kOrder>(a, b, j, q);
    if constexpr (T::kHasMin) {
      sums[4 * j] = _mm512_reduce_add_ps(a);
      sums[4 * j + 2] = _mm512_reduce_add_ps(b);
    }
  }
}

// ---- A few rows of activations ----

// Sixteen bytes of a step as floats, the offset taken off.
template <class T>
__m512 to_floats(__m128i q) {
  if constexpr (kFloats<T>) {
    const __m256 low = e4m3<0>(_mm256_cvtepu8_epi32(q));
    const __m256 high = e4m3<0>(_mm256_cvtepu8_epi32(_mm_unpackhi_epi64(q, q)));
    return _mm512_castpd_ps(_mm512_insertf64x4(_mm512_castps_pd(_mm512_castps256_ps512(low)),
                                               _mm256_castps_pd(high), 1));
  }
  if constexpr (T::kOffset == 0) return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(q));
  return _mm512_cvtepi32_ps(
      _mm512_cvtepi8_epi32(_mm_sub_epi8(q, _mm_set1_epi8(static_cast<char>(T::kOffset)))));
}

template <int kPart>
__m128i part(__m512i v) {
  if constexpr (kPart == 0) return _mm512_castsi512_si128(v);
  return _mm512_extracti32x4_epi32(v, kPart);
}

// Lanes 4j to 4j+3, each four times.
template <int kPart>
__m512 spread_lanes(__m512 v) {
  static constexpr Dwords kIndex{{0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3}};
  return _mm512_permutexvar_ps(_mm512_add_epi32(kIndex.load(), _mm512_set1_epi32(4 * kPart)), v);
}

template <class T, int kPart>
__m512 add_real_part(const Step& w, const float* x, __m512 sum) {
  __m512 v = _mm512_mul_ps(to_floats<T>(part<kPart>(w.q[0])), _mm512_load_ps(x + 16 * kPart));
  v = _mm512_fmadd_ps(to_floats<T>(part<kPart>(w.q[1])), _mm512_load_ps(x + 64 + 16 * kPart), v);
  return _mm512_fmadd_ps(v, spread_lanes<kPart>(w.scale), sum);
}

// sum += w * x of one step.
template <class T, Planes kPlanes>
__m512 add_step(const Step& w, const uint8_t* x, __m512 sum) {
  if constexpr (kPlanes == Planes::real) {
    const auto* p = reinterpret_cast<const float*>(x);
    sum = add_real_part<T, 0>(w, p, sum);
    sum = add_real_part<T, 1>(w, p, sum);
    sum = add_real_part<T, 2>(w, p, sum);
    sum = add_real_part<T, 3>(w, p, sum);
    if constexpr (T::kHasMin) sum = _mm512_fmadd_ps(w.min, _mm512_load_ps(x + kRealSums), sum);
    return sum;
  } else {
    const auto dot = [&](__m512i d, int plane) {
      const uint8_t* p = x + plane * kPlaneBytes;
      d = _mm512_dpbusd_epi32(d, w.q[0], _mm512_load_si512(p));
      return _mm512_dpbusd_epi32(d, w.q[1], _mm512_load_si512(p + 64));
    };
    __m512i d = T::kHasMin ? _mm512_setzero_si512() : _mm512_load_si512(x + sums_at(kPlanes));
    if constexpr (kPlanes == Planes::two) {
      const __m512i high = dot(_mm512_setzero_si512(), 0);
      d = _mm512_add_epi32(dot(d, 1), _mm512_slli_epi32(high, 7));
    } else {
      d = dot(d, 0);
    }
    const __m512 scale = _mm512_mul_ps(w.scale, _mm512_load_ps(x + scale_at(kPlanes)));
    sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(d), scale, sum);
    if constexpr (T::kHasMin)
      sum = _mm512_fmadd_ps(w.min, _mm512_load_ps(x + sums_at(kPlanes)), sum);
    return sum;
  }
}

// ---- Many rows ----

void transpose(__m512i (&v)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 4) {
    const __m512i a = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    const __m512i b = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    const __m512i c = _mm512_unpacklo_epi32(v[i + 2], v[i + 3]);
    const __m512i d = _mm512_unpackhi_epi32(v[i + 2], v[i + 3]);
    t[i] = _mm512_unpacklo_epi64(a, c);
    t[i + 1] = _mm512_unpackhi_epi64(a, c);
    t[i + 2] = _mm512_unpacklo_epi64(b, d);
    t[i + 3] = _mm512_unpackhi_epi64(b, d);
  }
  // t[4i + k] holds rows 4i to 4i+3 of columns k, 4+k, 8+k, 12+k.
  for (int k = 0; k < 4; ++k) {
    const __m512i a = _mm512_shuffle_i32x4(t[k], t[4 + k], 0x88);
    const __m512i b = _mm512_shuffle_i32x4(t[k], t[4 + k], 0xdd);
    const __m512i c = _mm512_shuffle_i32x4(t[8 + k], t[12 + k], 0x88);
    const __m512i d = _mm512_shuffle_i32x4(t[8 + k], t[12 + k], 0xdd);
    v[k] = _mm512_shuffle_i32x4(a, c, 0x88);
    v[8 + k] = _mm512_shuffle_i32x4(a, c, 0xdd);
    v[4 + k] = _mm512_shuffle_i32x4(b, d, 0x88);
    v[12 + k] = _mm512_shuffle_i32x4(b, d, 0xdd);
  }
}

// One scale per group or subgroup of 16 rows, from vectors by lanes.
template <class T>
void store_scales(const __m512 (&rows)[16], float* out) {
  __m512i v[16];
  for (int r = 0; r < 16; ++r) v[r] = _mm512_castps_si512(rows[r]);
  transpose(v);
  constexpr int kLanes = T::kTwoScales ? 2 : 4;
  for (int i = 0; i < 16 / kLanes; ++i) _mm512_store_si512(out + i * kPanelRows, v[i * kLanes]);
}

template <class T, int kPart>
void store_real_part(const Step (&rows)[16], int z, float* out) {
  __m512i v[16];
  for (int r = 0; r < 16; ++r) {
    const __m512 scale = spread_lanes<kPart>(rows[r].scale);
    __m512 f = to_floats<T>(part<kPart>(rows[r].q[z]));
    if constexpr (T::kHasMin)
      f = _mm512_add_ps(_mm512_mul_ps(f, scale), spread_lanes<kPart>(rows[r].min));
    else
      f = _mm512_mul_ps(f, scale);
    v[r] = _mm512_castps_si512(f);
  }
  transpose(v);
  for (int i = 0; i < 16; ++i) _mm512_store_si512(out + (16 * kPart + i) * kPanelRows, v[i]);
}

// A step of 16 weight rows, the first or second half of a panel's.
template <class T, Planes kPlanes>
void store_panel_step(const Step (&rows)[16], size_t step, int half, const Panel& panel) {
  constexpr bool kReal = kPlanes == Planes::real;
  constexpr size_t kPanelStep = panel_step(kPlanes);
  for (int z = 0; z < 2; ++z) {
    if constexpr (kReal) {
      auto* out = reinterpret_cast<float*>(panel.q + step * kRealPanelStep) + 16 * half +
                  z * 64 * kPanelRows;
      store_real_part<T, 0>(rows, z, out);
      store_real_part<T, 1>(rows, z, out);
      store_real_part<T, 2>(rows, z, out);
      store_real_part<T, 3>(rows, z, out);
    } else {
      __m512i v[16];
      for (int r = 0; r < 16; ++r) v[r] = rows[r].q[z];
      transpose(v);
      uint8_t* out = panel.q + step * kPanelStep + z * (kPanelStep / 2) + 64 * half;
      for (int i = 0; i < 16; ++i) _mm512_store_si512(out + i * (4 * kPanelRows), v[i]);
    }
  }
  if constexpr (!kReal) {
    __m512 v[16];
    for (int r = 0; r < 16; ++r) v[r] = rows[r].scale;
    store_scales<T>(v, panel.scales + step * kPanelScales + 16 * half);
    if constexpr (T::kHasMin) {
      for (int r = 0; r < 16; ++r) v[r] = rows[r].min;
      store_scales<T>(v, panel.mins + step * kPanelScales + 16 * half);
    }
  }
}

template <int kM>
void store_tile(const Tile& t, const __m512 (&sums)[kM][2]) {
  const uint32_t mask = static_cast<uint32_t>((1ull << t.columns) - 1);
  for (int i = 0; i < kM; ++i)
    for (int v = 0; v < 2; ++v)
      _mm512_mask_storeu_ps(t.y + i * t.ldy + 16 * v, static_cast<__mmask16>(mask >> (16 * v)),
                            sums[i][v]);
}

// kM activation rows times the panel.
template <class T, Planes kPlanes, int kM>
void multiply_tile(const Panel& panel, const uint8_t* packed, size_t stride, int groups,
                   const Tile& tile) {
  constexpr bool kHasMin = T::kHasMin;
  constexpr int kSub = T::kTwoScales ? 2 : 1;  // parts of a group with a scale each
  constexpr int kLanes = 4 / kSub;             // 32-bit lanes of such a part, in each of q[0], q[1]
  __m512 sums[kM][2];
  for (auto& row : sums) row[0] = row[1] = _mm512_setzero_ps();
  for (int g = 0; g < groups; ++g) {
    const size_t step = static_cast<size_t>(g) / kStepGroups;
    const uint8_t* x = packed + step * step_bytes(kPlanes);
    const uint8_t* q = panel.q + step * panel_step(kPlanes);
    for (int sub = 0; sub < kSub; ++sub) {
      const int lane = g % kStepGroups * 4 + sub * kLanes;
      __m512i d[kM][2];
#pragma GCC unroll 8
      for (int i = 0; i < kM; ++i) d[i][0] = d[i][1] = _mm512_setzero_si512();
      const auto add_plane = [&](int plane) {
#pragma GCC unroll 8
        for (int k = 0; k < 2 * kLanes; ++k) {
          const int z = k / kLanes, at = lane + k % kLanes;
          const uint8_t* p = q + (z * 16 + at) * (4 * kPanelRows);
          const __m512i w0 = _mm512_load_si512(p), w1 = _mm512_load_si512(p + 64);
#pragma GCC unroll 8
          for (int i = 0; i < kM; ++i) {
            int32_t four;
            __builtin_memcpy(&four, x + i * stride + plane * kPlaneBytes + z * 64 + at * 4, 4);
            const __m512i b = _mm512_set1_epi32(four);
            d[i][0] = _mm512_dpbusd_epi32(d[i][0], w0, b);
            d[i][1] = _mm512_dpbusd_epi32(d[i][1], w1, b);
          }
        }
      };
      add_plane(0);
      if constexpr (kPlanes == Planes::two) {
#pragma GCC unroll 8
        for (int i = 0; i < kM; ++i)
          for (int v = 0; v < 2; ++v) d[i][v] = _mm512_slli_epi32(d[i][v], 7);
        add_plane(1);
      }
      const size_t at = step * kPanelScales + (g % kStepGroups * kSub + sub) * kPanelRows;
      const __m512 s[2] = {_mm512_load_ps(panel.scales + at),
                           _mm512_load_ps(panel.scales + at + 16)};
#pragma GCC unroll 8
      for (int i = 0; i < kM; ++i) {
        const uint8_t* row = x + i * stride;
        const __m512 scale =
            _mm512_set1_ps(reinterpret_cast<const float*>(row + scale_at(kPlanes))[lane]);
        for (int v = 0; v < 2; ++v) {
          if constexpr (!kHasMin)
            d[i][v] = _mm512_add_epi32(
                d[i][v],
                _mm512_set1_epi32(reinterpret_cast<const int32_t*>(row + sums_at(kPlanes))[lane]));
          sums[i][v] =
              _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(d[i][v]), scale), s[v], sums[i][v]);
          if constexpr (kHasMin)
            sums[i][v] = _mm512_fmadd_ps(
                _mm512_load_ps(panel.mins + at + 16 * v),
                _mm512_set1_ps(reinterpret_cast<const float*>(row + sums_at(kPlanes))[lane]),
                sums[i][v]);
        }
      }
    }
  }
  store_tile(tile, sums);
}

template <int kM>
void multiply_real_tile(const Panel& panel, const uint8_t* packed, size_t stride, int groups,
                        const Tile& tile) {
  __m512 sums[kM][2];
  for (auto& row : sums) row[0] = row[1] = _mm512_setzero_ps();
  for (int g = 0; g < groups; ++g) {
    const size_t step = static_cast<size_t>(g) / kStepGroups;
    for (int z = 0; z < 2; ++z) {
      const int from = z * 64 + g % kStepGroups * 16;
      const auto* w =
          reinterpret_cast<const float*>(panel.q + step * kRealPanelStep) + from * kPanelRows;
      const auto* x = reinterpret_cast<const float*>(packed + step * kRealBytes) + from;
      for (int k = 0; k < 16; ++k) {
        const __m512 w0 = _mm512_load_ps(w + k * kPanelRows);
        const __m512 w1 = _mm512_load_ps(w + k * kPanelRows + 16);
#pragma GCC unroll 12
        for (int i = 0; i < kM; ++i) {
          const __m512 b = _mm512_set1_ps(x[i * (stride / sizeof(float)) + k]);
          sums[i][0] = _mm512_fmadd_ps(w0, b, sums[i][0]);
          sums[i][1] = _mm512_fmadd_ps(w1, b, sums[i][1]);
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

const Loops& avx512_loops() {
  static constexpr Loops kLoops{packed_bytes, pack, scratch_bytes, multiply, convert};
  return kLoops;
}

}  // namespace mlxcpp::kernels::quant

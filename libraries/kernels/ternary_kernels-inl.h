#pragma once

// The loop of ternary_kernels.h, for the instruction set that the including file is compiled for.

#include "kernels/simd.h"
#include "kernels/ternary_kernels.h"

namespace mlxcpp::kernels {
namespace {

// What the lowest two bits of each lane stand for: -1, 0, 1, and 2 for the code that is not used.
#if defined(__AVX512F__)
using Codes = __m512i;
inline Codes load_codes(const uint8_t* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
template <int Bits>
inline Vec values(Codes codes) {
  const __m512 table = _mm512_broadcast_f32x4(_mm_setr_ps(-1, 0, 1, 2));
  return {_mm512_permutevar_ps(table, _mm512_srli_epi32(codes, Bits))};
}
#elif defined(__AVX2__)
using Codes = __m256i;
inline Codes load_codes(const uint8_t* p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
template <int Bits>
inline Vec values(Codes codes) {
  const __m256 table = _mm256_setr_ps(-1, 0, 1, 2, -1, 0, 1, 2);
  return {_mm256_permutevar_ps(table, _mm256_srli_epi32(codes, Bits))};
}
#else
using Codes = const uint8_t*;
inline Codes load_codes(const uint8_t* p) { return p; }
template <int Bits>
inline Vec values(Codes codes) {
  return each_lane([=](size_t i) { return static_cast<float>((codes[i] >> Bits) & 3) - 1.0f; });
}
#endif

// Rows of x that are multiplied at once, four sums each: as the registers hold.
constexpr size_t kTernaryRows = kFloatLanes == 16 ? 5 : kFloatLanes == 8 ? 2 : 1;

template <size_t M>
void multiply_rows(const float* x, size_t ldx, const uint8_t* codes, size_t k, float scale,
                   float* y, size_t ldy, size_t distance) {
  Vec s[M][4];
#pragma GCC unroll 8
  for (size_t m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (size_t j = 0; j < 4; ++j) s[m][j] = zero();
  const auto add = [&](size_t i, size_t n, Codes c) {
    const Vec w[4] = {values<0>(c), values<2>(c), values<4>(c), values<6>(c)};
#pragma GCC unroll 8
    for (size_t m = 0; m < M; ++m) {
      const Vec xs = load_up_to(x + m * ldx + i, n);
#pragma GCC unroll 4
      for (size_t j = 0; j < 4; ++j) s[m][j] = fma(w[j], xs, s[m][j]);
    }
  };
  size_t i = 0;
  for (; i + kFloatLanes <= k; i += kFloatLanes) add(i, kFloatLanes, load_codes(codes + i));
  if (i < k) {
    uint8_t rest[kFloatLanes] = {};
    __builtin_memcpy(rest, codes + i, k - i);
    add(i, k - i, load_codes(rest));
  }
#pragma GCC unroll 8
  for (size_t m = 0; m < M; ++m) {
    float sums[4];
    sums_of_4(s[m][0], s[m][1], s[m][2], s[m][3], sums);
    for (size_t j = 0; j < 4; ++j) y[m * ldy + j * distance] = scale * sums[j];
  }
}

void multiply_ternary(const float* x, size_t ldx, size_t m, const uint8_t* codes, size_t k,
                      float scale, float* y, size_t ldy, size_t distance) {
  for (; m >= kTernaryRows; m -= kTernaryRows, x += kTernaryRows * ldx, y += kTernaryRows * ldy)
    multiply_rows<kTernaryRows>(x, ldx, codes, k, scale, y, ldy, distance);
  for (; m > 0; --m, x += ldx, y += ldy)
    multiply_rows<1>(x, ldx, codes, k, scale, y, ldy, distance);
}

// ---- Rounded rows ----

struct TernaryHead {
  float scale;
  int64_t sum;  // of the integers
};

// Four vectors of whole numbers in int8's range as bytes, in order.
inline void store_bytes(int8_t* p, const Vec (&x)[4]) {
#if defined(__AVX512F__)
#pragma GCC unroll 4
  for (size_t j = 0; j < 4; ++j)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 16 * j),
                     _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x[j].v)));
#elif defined(__AVX2__)
  const auto halves = [](Vec a, Vec b) {
    return _mm256_packs_epi32(_mm256_cvtps_epi32(a.v), _mm256_cvtps_epi32(b.v));
  };
  const __m256i bytes = _mm256_packs_epi16(halves(x[0], x[1]), halves(x[2], x[3]));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permutevar8x32_epi32(bytes, order));
#else
  float values[4 * kFloatLanes];
  for (size_t j = 0; j < 4; ++j) store(values + j * kFloatLanes, x[j]);
  for (size_t i = 0; i < 4 * kFloatLanes; ++i) p[i] = static_cast<int8_t>(values[i]);
#endif
}

inline Vec nearest(Vec x) {
  const Vec shift = set(12582912.0f);  // 1.5 * 2^23: no bit is left for a fraction
  return (x + shift) - shift;
}

void pack_ternary(const float* x, size_t k, int planes, uint8_t* packed) {
  Vec peaks = zero(), not_finite = zero();
  for (size_t i = 0; i < k; i += kFloatLanes) {
    const Vec v = load_up_to(x + i, k - i < kFloatLanes ? k - i : kFloatLanes);
    peaks = max(abs(v), peaks);
    not_finite = fma(v, zero(), not_finite);  // infinity * 0 is NaN
  }
  const float peak = max_lane(peaks), rest = sum(not_finite);
  const size_t plane = ternary_plane_bytes(k);
  auto* hi = reinterpret_cast<int8_t*>(packed + kTernaryHead);
  int8_t* lo = hi + plane;
  TernaryHead head{0.0f, 0};
  const bool finite = rest == 0.0f;
  if (!finite || peak < 1e-30f) {
    head.scale = finite ? 0.0f : rest;
    __builtin_memset(hi, 0, static_cast<size_t>(planes) * plane);
    __builtin_memcpy(packed, &head, sizeof head);
    return;
  }
  const float top = planes == 2 ? 127.0f * 128.0f : 127.0f;
  head.scale = peak / top;
  const Vec inverse = set(top / peak);
  for (size_t i = 0; i < plane; i += 4 * kFloatLanes) {
    Vec high[4], low[4];
#pragma GCC unroll 4
    for (size_t j = 0; j < 4; ++j) {
      const size_t at = i + j * kFloatLanes;
      const Vec v =
          at >= k ? zero() : load_up_to(x + at, k - at < kFloatLanes ? k - at : kFloatLanes);
      const Vec scaled = v * inverse;
      if (planes == 1) {
        high[j] = nearest(scaled);
        low[j] = zero();
      } else {
        high[j] = nearest(scaled * set(1.0f / 128.0f));
        low[j] = nearest(scaled - high[j] * set(128.0f));
      }
    }
    store_bytes(hi + i, high);
    if (planes == 2) store_bytes(lo + i, low);
  }
  for (size_t i = 0; i < k; ++i) head.sum += planes == 2 ? 128 * hi[i] + lo[i] : hi[i];
  __builtin_memcpy(packed, &head, sizeof head);
}

// Columns whose codes are taken apart at a time: their products fit an int16 (2 * 3 * 127 * 32).
constexpr size_t kTernaryBlock = 1024;
constexpr size_t kTernaryBytes = 64;  // of a step of the loop; x has whole ones

// The four rows of n codes as bytes; zeros up to whole steps.
inline void take_apart(const uint8_t* codes, size_t n, uint8_t (*rows)[kTernaryBlock]) {
  uint8_t rest[kTernaryBytes];
  for (size_t i = 0; i < n; i += kTernaryBytes) {
    const uint8_t* from = codes + i;
    if (n - i < kTernaryBytes) {
      __builtin_memset(rest, 0, sizeof rest);
      __builtin_memcpy(rest, from, n - i);
      from = rest;
    }
#if defined(__AVX512F__)
    const __m512i c = _mm512_loadu_si512(from), mask = _mm512_set1_epi8(3);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j)
      _mm512_store_si512(rows[j] + i, _mm512_and_si512(_mm512_srli_epi16(c, 2 * j), mask));
#elif defined(__AVX2__)
    const __m256i mask = _mm256_set1_epi8(3);
    for (size_t half = 0; half < kTernaryBytes; half += 32) {
      const __m256i c = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + half));
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j)
        _mm256_store_si256(reinterpret_cast<__m256i*>(rows[j] + i + half),
                           _mm256_and_si256(_mm256_srli_epi16(c, 2 * j), mask));
    }
#else
    for (size_t b = 0; b < kTernaryBytes; ++b)
      for (int j = 0; j < 4; ++j) rows[j][i + b] = static_cast<uint8_t>((from[b] >> (2 * j)) & 3);
#endif
  }
}

#if defined(__AVX2__)
#if defined(__AVX512F__)
using Bytes = __m512i;
inline Bytes load_bytes(const void* p) { return _mm512_loadu_si512(p); }
// The codes of the j-th row of packed ones.
template <int J>
inline Bytes codes_of(Bytes packed) {
  return _mm512_and_si512(_mm512_srli_epi16(packed, 2 * J), _mm512_set1_epi8(3));
}
#else
using Bytes = __m256i;
inline Bytes load_bytes(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
template <int J>
inline Bytes codes_of(Bytes packed) {
  return _mm256_and_si256(_mm256_srli_epi16(packed, 2 * J), _mm256_set1_epi8(3));
}
#endif

// Sums of codes of four rows times 128 * hi + lo, or times hi; of kTernaryBlock columns at most.
template <bool Two>
struct Dots {
  Bytes h[4] = {}, l[4] = {};

#if defined(__AVX512F__)
  void add(int j, Bytes codes, Bytes hi, Bytes lo) {
    h[j] = _mm512_dpbusd_epi32(h[j], codes, hi);
    if (Two) l[j] = _mm512_dpbusd_epi32(l[j], codes, lo);
  }
  void add_to(int64_t* sums) const {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j)
      sums[j] +=
          _mm512_reduce_add_epi32(Two ? _mm512_add_epi32(_mm512_slli_epi32(h[j], 7), l[j]) : h[j]);
  }
#else
  void add(int j, Bytes codes, Bytes hi, Bytes lo) {
    h[j] = _mm256_add_epi16(h[j], _mm256_maddubs_epi16(codes, hi));
    if (Two) l[j] = _mm256_add_epi16(l[j], _mm256_maddubs_epi16(codes, lo));
  }
  void add_to(int64_t* sums) const {
    const __m256i one = _mm256_set1_epi16(1);
    __m256i s[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      s[j] = _mm256_madd_epi16(h[j], one);
      if (Two) s[j] = _mm256_add_epi32(_mm256_slli_epi32(s[j], 7), _mm256_madd_epi16(l[j], one));
    }
    const __m256i halves =
        _mm256_hadd_epi32(_mm256_hadd_epi32(s[0], s[1]), _mm256_hadd_epi32(s[2], s[3]));
    const __m128i totals =
        _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
    auto* to = reinterpret_cast<__m256i*>(sums);
    _mm256_storeu_si256(to,
                        _mm256_add_epi64(_mm256_loadu_si256(to), _mm256_cvtepi32_epi64(totals)));
  }
#endif
};
#endif

// Adds the sums over n columns (whole steps) of codes times 128 * hi + lo, or times hi.
template <bool Two>
inline void add_dots(const uint8_t (*rows)[kTernaryBlock], const int8_t* hi, const int8_t* lo,
                     size_t n, int64_t* sums) {
#if defined(__AVX2__)
  Dots<Two> dots;
  for (size_t i = 0; i < n; i += sizeof(Bytes)) {
    const Bytes xh = load_bytes(hi + i), xl = Two ? load_bytes(lo + i) : xh;
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) dots.add(j, load_bytes(rows[j] + i), xh, xl);
  }
  dots.add_to(sums);
#else
  for (int j = 0; j < 4; ++j) {
    int32_t h = 0, l = 0;
    for (size_t i = 0; i < n; ++i) {
      h += rows[j][i] * hi[i];
      if (Two) l += rows[j][i] * lo[i];
    }
    sums[j] += Two ? 128 * h + l : h;
  }
#endif
}

// The sums less what codes have too much (they are the values plus one), as floats times `scale`.
inline void values_of(const int64_t* sums, const TernaryHead& head, float scale, float* y,
                      size_t distance) {
#if defined(__AVX2__)
  // Beside 1.5 * 2^52 the bits of a double are those of a whole number.
  const __m256d shift = _mm256_set1_pd(0x1.8p52);
  const __m256i whole = _mm256_sub_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(sums)),
                                         _mm256_set1_epi64x(head.sum));
  const __m256d exact = _mm256_sub_pd(
      _mm256_castsi256_pd(_mm256_add_epi64(whole, _mm256_castpd_si256(shift))), shift);
  float out[4];
  _mm_storeu_ps(out, _mm_mul_ps(_mm_set1_ps(scale),
                                _mm_mul_ps(_mm_set1_ps(head.scale), _mm256_cvtpd_ps(exact))));
  for (size_t j = 0; j < 4; ++j) y[j * distance] = out[j];
#else
  for (size_t j = 0; j < 4; ++j)
    y[j * distance] = scale * (head.scale * static_cast<float>(sums[j] - head.sum));
#endif
}

#if defined(__AVX2__)
// One row of x meets codes as they are taken apart.
template <bool Two>
void multiply_packed_row(const uint8_t* packed, const uint8_t* codes, size_t k, float scale,
                         float* y, size_t distance) {
  constexpr size_t kAhead = 4096;  // that memory needs to keep up
  const auto* hi = reinterpret_cast<const int8_t*>(packed + kTernaryHead);
  const int8_t* lo = hi + ternary_plane_bytes(k);
  int64_t sums[4] = {};
  for (size_t i = 0; i < k;) {
    Dots<Two> dots;
    const auto add = [&](Bytes c) {
      const Bytes xh = load_bytes(hi + i), xl = Two ? load_bytes(lo + i) : xh;
      dots.add(0, codes_of<0>(c), xh, xl);
      dots.add(1, codes_of<1>(c), xh, xl);
      dots.add(2, codes_of<2>(c), xh, xl);
      dots.add(3, codes_of<3>(c), xh, xl);
    };
    const size_t end = k - i < kTernaryBlock ? k : i + kTernaryBlock;
    for (; i + sizeof(Bytes) <= end; i += sizeof(Bytes)) {
      __builtin_prefetch(codes + i + kAhead);
      add(load_bytes(codes + i));
    }
    if (i < end) {
      uint8_t rest[sizeof(Bytes)] = {};
      __builtin_memcpy(rest, codes + i, end - i);
      add(load_bytes(rest));
      i = end;
    }
    dots.add_to(sums);
  }
  TernaryHead head;
  __builtin_memcpy(&head, packed, sizeof head);
  values_of(sums, head, scale, y, distance);
}
#endif

// Rows of x for which codes are taken apart each time.
constexpr size_t kTernaryFew = 3;

template <bool Two>
void multiply_packed_rows(const uint8_t* packed, size_t m, const uint8_t* codes, size_t k,
                          float scale, float* y, size_t ldy, size_t distance) {
  constexpr size_t kRows = 16;  // that share codes taken apart
  alignas(64) uint8_t rows[4][kTernaryBlock];
  const size_t plane = ternary_plane_bytes(k), stride = ternary_packed_bytes(k, Two ? 2 : 1);
#if defined(__AVX2__)
  if (m <= kTernaryFew) {
    for (size_t i = 0; i < m; ++i)
      multiply_packed_row<Two>(packed + i * stride, codes, k, scale, y + i * ldy, distance);
    return;
  }
#endif
  for (; m > 0; packed += kRows * stride, y += kRows * ldy, m -= m < kRows ? m : kRows) {
    const size_t count = m < kRows ? m : kRows;
    int64_t sums[kRows][4] = {};
    for (size_t begin = 0; begin < k; begin += kTernaryBlock) {
      const size_t n = k - begin < kTernaryBlock ? k - begin : kTernaryBlock;
      take_apart(codes + begin, n, rows);
      for (size_t i = 0; i < count; ++i) {
        const auto* hi =
            reinterpret_cast<const int8_t*>(packed + i * stride + kTernaryHead) + begin;
        add_dots<Two>(rows, hi, Two ? hi + plane : hi, ternary_plane_bytes(n), sums[i]);
      }
    }
    for (size_t i = 0; i < count; ++i) {
      TernaryHead head;
      __builtin_memcpy(&head, packed + i * stride, sizeof head);
      values_of(sums[i], head, scale, y + i * ldy, distance);
    }
  }
}

void multiply_packed_ternary(const uint8_t* packed, int planes, size_t m, const uint8_t* codes,
                             size_t k, float scale, float* y, size_t ldy, size_t distance) {
  const auto run = planes == 2 ? multiply_packed_rows<true> : multiply_packed_rows<false>;
  run(packed, m, codes, k, scale, y, ldy, distance);
}

}  // namespace
}  // namespace mlxcpp::kernels

// AVX-512 has an instruction for sums of bytes, which the tables would have to beat.
#if defined(__AVX512F__)
#define MLXCPP_TERNARY_KERNELS \
  {multiply_ternary, pack_ternary, multiply_packed_ternary, nullptr, 0, nullptr}
#else
#include "kernels/ternary_tables-inl.h"
#define MLXCPP_TERNARY_KERNELS                              \
  {multiply_ternary, pack_ternary, multiply_packed_ternary, \
   index_ternary,    kFloatLanes,  multiply_tables}
#endif

#pragma once

// Part of ternary_kernels-inl.h: products of many rows by tables. Four weights ask of four
// neighbours in a row of x for one of 81 sums: these are computed once, for as many rows of x as a
// vector has lanes, and then each row of weights only looks its own up: one addition for four
// products a lane. Sums are whole numbers, so they are the same as those of the other loop.

namespace mlxcpp::kernels {
namespace {

using Ints __attribute__((vector_size(4 * kFloatLanes), may_alias)) = int32_t;
using Reals __attribute__((vector_size(4 * kFloatLanes), may_alias)) = float;

constexpr size_t kTableSums = 81;
// Groups of four columns, whose tables are in the first cache together: 21 kB with eight lanes.
constexpr size_t kTableGroups = kIndexColumns / 4;

constexpr size_t sum_at(size_t group, size_t sum) {
  return (group * kTableSums + sum) * sizeof(Ints);
}

// The places in the tables for one packed row: of each kIndexColumns columns those of its four
// rows, one after the other, at out[0], out[distance], ... False where a code stands for nothing.
bool index_ternary(const uint8_t* codes, size_t k, uint16_t* out, size_t distance) {
  uint8_t unused = 0;
  for (size_t begin = 0; begin < k; begin += kIndexColumns, out += distance) {
    uint8_t rest[kIndexColumns];
    const uint8_t* from = codes + begin;
    if (k - begin < kIndexColumns) {
      __builtin_memset(rest, 0, sizeof rest);
      __builtin_memcpy(rest, from, k - begin);
      from = rest;
    }
#if defined(__AVX2__)
    const __m256i c = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    const __m256i both = _mm256_and_si256(c, _mm256_srli_epi16(c, 1));
    unused |= !_mm256_testz_si256(both, _mm256_set1_epi8(0x55));
    constexpr int size = sizeof(Ints);
    static_assert(sum_at(kTableGroups - 1, kTableSums) < 65536);
    const auto base = [](int i) { return static_cast<int>(sum_at(static_cast<size_t>(i), 0)); };
    const __m256i bases =
        _mm256_setr_epi32(base(0), base(1), base(2), base(3), base(4), base(5), base(6), base(7));
    const auto places = [&](int j) {
      const __m256i code = _mm256_and_si256(_mm256_srli_epi16(c, 2 * j), _mm256_set1_epi8(3));
      const __m256i two = _mm256_maddubs_epi16(code, _mm256_set1_epi16(0x0301));
      const __m256i four = _mm256_madd_epi16(two, _mm256_set1_epi32(0x90001 * size));
      return _mm256_add_epi32(four, bases);
    };
    const auto put = [&](int j) {
      const __m256i two_rows = _mm256_packus_epi32(places(j), places(j + 1));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + j * kTableGroups),
                          _mm256_permute4x64_epi64(two_rows, 0xd8));
    };
    put(0);
    put(2);
#else
    for (size_t g = 0; g < kTableGroups; ++g) {
      const uint8_t* c = from + 4 * g;
      for (size_t i = 0; i < 4; ++i) unused |= c[i] & (c[i] >> 1) & 0x55;
      for (size_t j = 0; j < 4; ++j) {
        const auto code = [&](size_t i) { return size_t{c[i]} >> (2 * j) & 3; };
        const size_t sum = code(0) + 3 * code(1) + 9 * code(2) + 27 * code(3);
        out[j * kTableGroups + g] = static_cast<uint16_t>(sum_at(g, sum));
      }
    }
#endif
  }
  return unused == 0;
}

// table[c0 + 3 * c1 + 9 * c2 + 27 * c3] = sum of (c - 1) * x.
inline void fill_table(const float* x, Ints* table) {
  const auto column = [&](size_t i) {
    return __builtin_convertvector(*reinterpret_cast<const Reals*>(x + i * kFloatLanes), Ints);
  };
  const Ints x0 = column(0), x1 = column(1), x2 = column(2), x3 = column(3);
  Ints s3 = -x3;
  for (size_t c3 = 0; c3 < 3; ++c3, s3 += x3) {
    Ints s2 = s3 - x2;
    for (size_t c2 = 0; c2 < 3; ++c2, s2 += x2) {
      Ints s1 = s2 - x1;
      for (size_t c1 = 0; c1 < 3; ++c1, s1 += x1, table += 3) {
        table[0] = s1 - x0;
        table[1] = s1;
        table[2] = s1 + x0;
      }
    }
  }
}

inline Ints look_up(const uint16_t* places, const Ints* tables, Ints sum) {
  const auto* at = reinterpret_cast<const unsigned char*>(tables);
  const auto add = [&](uint64_t place) {
    sum += *reinterpret_cast<const Ints*>(at + (place & 0xffff));
  };
#pragma GCC unroll 2
  for (size_t g = 0; g < kTableGroups; g += 4) {
    // Four at once, in whatever order: the ports that load are what this loop waits for. The
    // compiler would take this apart again.
    uint64_t four;
    __builtin_memcpy(&four, places + g, sizeof four);
    asm("" : "+r"(four));
    add(four);
    add(four >> 16);
    add(four >> 32);
    add(four >> 48);
  }
  return sum;
}

void multiply_tables(const uint8_t* packed, int planes, size_t m, size_t k, const uint16_t* index,
                     size_t rows, size_t begin, size_t end, float scale, float* y, size_t ldy,
                     int32_t* room) {
  alignas(64) Ints tables[kTableGroups * kTableSums];
  alignas(64) float numbers[kFloatLanes][kIndexColumns] = {};
  alignas(64) float columns[kIndexColumns][kFloatLanes];
  Reals scales = {};
  const size_t plane = ternary_plane_bytes(k), stride = ternary_packed_bytes(k, planes);
  for (size_t i = 0; i < m; ++i) {
    TernaryHead head;
    __builtin_memcpy(&head, packed + i * stride, sizeof head);
    scales[i] = head.scale;
  }
  auto* sums = reinterpret_cast<Ints*>(room);
  __builtin_memset(room, 0, 4 * (end - begin) * sizeof(Ints));
  for (size_t at = 0; at < k; at += kIndexColumns, index += rows * kIndexRow) {
    for (size_t i = 0; i < m; ++i) {
      const auto* hi = reinterpret_cast<const int8_t*>(packed + i * stride + kTernaryHead) + at;
      const int8_t* lo = hi + plane;
      if (planes == 2)
        for (size_t c = 0; c < kIndexColumns; ++c)
          numbers[i][c] = static_cast<float>(128 * hi[c] + lo[c]);
      else
        for (size_t c = 0; c < kIndexColumns; ++c) numbers[i][c] = static_cast<float>(hi[c]);
    }
    for (size_t i = 0; i < kFloatLanes; i += kTransposeSide)
      for (size_t c = 0; c < kIndexColumns; c += kTransposeSide)
        transpose_square(&numbers[i][c], kIndexColumns, &columns[c][i], kFloatLanes);
    for (size_t g = 0; g < kTableGroups; ++g) fill_table(columns[4 * g], tables + g * kTableSums);
    const uint16_t* places = index + begin * kIndexRow;
    for (size_t r = 0; r < 4 * (end - begin); ++r, places += kTableGroups)
      sums[r] = look_up(places, tables, sums[r]);
  }
  // A square of results at a time, at whose place these become rows of y.
  for (size_t j = 0; j < 4; ++j)
    for (size_t r = begin; r < end; r += kTransposeSide) {
      alignas(64) Reals square[kTransposeSide] = {};
      const size_t n = end - r < kTransposeSide ? end - r : kTransposeSide;
      for (size_t i = 0; i < n; ++i)
        square[i] =
            scale * (scales * __builtin_convertvector(sums[4 * (r - begin + i) + j], Reals));
      for (size_t i = 0; i < m; i += kTransposeSide) {
        const float* from = reinterpret_cast<const float*>(square) + i;
        float* to = y + i * ldy + j * rows + r;
        if (n == kTransposeSide && i + kTransposeSide <= m) {
          transpose_square(from, kFloatLanes, to, ldy);
          continue;
        }
        for (size_t q = i; q < m && q < i + kTransposeSide; ++q, to += ldy)
          for (size_t c = 0; c < n; ++c) to[c] = from[c * kFloatLanes + q - i];
      }
    }
}

}  // namespace
}  // namespace mlxcpp::kernels

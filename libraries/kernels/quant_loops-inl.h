// The loops that are the same for every vector instruction set, down to a step of weights or a tile
// of results. Included last in the file of an instruction set, which defines
//   Floats, zero(), reduce(Floats)    a vector of kLanes floats, and the sum of its lanes
//   Loader<T>                         how a type is read: kOrder; kSteps, read together as a unit
//                                     of kUnitBytes; load()
//   pack_planes_step, pack_real_step  activations of a step
//   add_step                          one step of one weight row times one row of activations
//   store_panel_step                  a step of kLanes weight rows, into a panel
//   multiply_tile, multiply_real_tile a panel times a few rows of activations
//   kVectorSums, kTileRows, kTwoTileRows, kRealTileRows  how many sums, and rows of activations
//                                     (of one plane, of two, of floats), fit registers
#pragma once

#include "kernels/quant_layout-inl.h"

namespace mlxcpp::kernels::quant {
namespace {

// Calls f with a value of the type that w has, of integers or floats.
template <class F>
void with_any_type(const Matrix& w, F&& f) {
  w.mode == QuantMode::mxfp8 ? f(MxFp8{}) : with_type(w, f);
}

size_t packed_bytes(const Matrix& w, Planes planes) {
  return static_cast<size_t>(steps_of(w)) * step_bytes(planes);
}

size_t panel_bytes(const Matrix& w, Planes planes) {
  const size_t scales = planes == Planes::real ? 0 : 2 * kPanelScales * sizeof(float);
  return steps_of(w) * (panel_step(planes) + scales);
}

// Panels that a few rows of activations are multiplied with while these are in the first cache; the
// panels are to stay in the second.
size_t panels_at_a_time(const Matrix& w, Planes planes) {
  const size_t fit = (size_t{160} << 10) / panel_bytes(w, planes);
  return fit < 1 ? 1 : fit > 4 ? 4 : fit;
}

size_t scratch_bytes(const Matrix& w, Planes planes, size_t) {
  return panels_at_a_time(w, planes) * panel_bytes(w, planes);
}

void pack(const Matrix& w, Planes planes, const void* x, Number number, uint8_t* packed) {
  const auto* p = static_cast<const uint8_t*>(x);
  with_any_type(w, [&](auto type) {
    using T = decltype(type);
    for (int step = 0; step < steps_of(w); ++step) {
      const size_t from = static_cast<size_t>(step) * kStep;
      const int left = (w.cols - step * kStep) / kGroup;
      const int groups = left < kStepGroups ? left : kStepGroups;
      uint8_t* out = packed + static_cast<size_t>(step) * step_bytes(planes);
      if constexpr (!kFloats<T>) {
        if (planes == Planes::one) pack_planes_step<T, false>(p, number, from, groups, out);
        if (planes == Planes::two) pack_planes_step<T, true>(p, number, from, groups, out);
      }
      if (planes == Planes::real) pack_real_step<T>(p, number, from, groups, out);
    }
  });
}

// ---- A few rows of activations: each weight row is read once, with sums by lanes ----

// How far ahead of the weights in use to fetch: what short rows need to hide memory's latency.
constexpr size_t kPrefetch = 4096;
// Bytes of a row from which on memory gives more when one row is read at a time; several rows at a
// time hide the end of a short one.
constexpr size_t kLongRow = 512;

template <class T, Planes kPlanes, int kM, int kRows>
void multiply_vectors(const Matrix& w, const uint8_t* packed, size_t begin, size_t end, float* y,
                      size_t ldy) {
  using L = Loader<T>;
  const L loader(w);
  const size_t stride = packed_bytes(w, kPlanes);
  const int whole = w.cols / (kStep * L::kSteps), groups = w.cols % kStep / kGroup;
  for (size_t n = begin; n < end; n += kRows) {
    Row rows[kRows];
    for (int r = 0; r < kRows; ++r) rows[r] = row_at(w, n + r < end ? n + r : end - 1);
    Floats sums[kRows][kM];
    for (auto& row : sums)
      for (Floats& s : row) s = zero();
    for (int unit = 0; unit < whole; ++unit) {
      const uint8_t* x = packed + static_cast<size_t>(unit) * (L::kSteps * step_bytes(kPlanes));
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const uint8_t* ahead = rows[r].p + unit * L::kUnitBytes + kPrefetch;
        for (int i = 0; i < L::kUnitBytes; i += 64) __builtin_prefetch(ahead + i);
        Step steps[L::kSteps];
        loader.template load<false>(rows[r], unit, kStepGroups, steps);
#pragma GCC unroll 2
        for (int s = 0; s < L::kSteps; ++s)
#pragma GCC unroll 4
          for (int i = 0; i < kM; ++i)
            sums[r][i] = add_step<T, kPlanes>(steps[s], x + i * stride + s * step_bytes(kPlanes),
                                              sums[r][i]);
      }
    }
    if constexpr (L::kSteps == 1)
      if (groups != 0) {
        const uint8_t* x = packed + static_cast<size_t>(whole) * step_bytes(kPlanes);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
          Step step;
          loader.template load<true>(rows[r], whole, groups, &step);
#pragma GCC unroll 4
          for (int i = 0; i < kM; ++i)
            sums[r][i] = add_step<T, kPlanes>(step, x + i * stride, sums[r][i]);
        }
      }
    for (int r = 0; r < kRows && n + r < end; ++r)
      for (int i = 0; i < kM; ++i) y[i * ldy + (n - begin) + r] = reduce(sums[r][i]);
  }
}

// ---- Many rows: weight rows are unpacked to a panel, then multiplied with every activation row
// ----

Panel panel_in(uint8_t* scratch, const Matrix& w, Planes planes) {
  const size_t steps = steps_of(w);
  auto* scales = reinterpret_cast<float*>(scratch + steps * panel_step(planes));
  return {scratch, scales, scales + steps * kPanelScales};
}

// Weight rows from n on; rows from `end` on repeat the last.
template <class T, Planes kPlanes>
void fill_panel(const Matrix& w, size_t n, size_t end, const Panel& panel) {
  using L = Loader<T>;
  const L loader(w);
  const int units = (w.cols + kStep * L::kSteps - 1) / (kStep * L::kSteps);
  for (int half = 0; half < 2; ++half) {
    Row rows[kLanes];
    for (int r = 0; r < kLanes; ++r) {
      const size_t at = n + kLanes * half + r;
      rows[r] = row_at(w, at < end ? at : end - 1);
    }
    for (int unit = 0; unit < units; ++unit) {
      Step steps[L::kSteps][kLanes];
      const int left = (w.cols - unit * kStep * L::kSteps) / kGroup;
      for (int r = 0; r < kLanes; ++r) {
        Step one[L::kSteps];
        if (L::kSteps > 1 || left >= kStepGroups)
          loader.template load<false>(rows[r], unit, kStepGroups, one);
        else
          loader.template load<true>(rows[r], unit, left, one);
        for (int s = 0; s < L::kSteps; ++s) steps[s][r] = one[s];
      }
      for (int s = 0; s < L::kSteps; ++s)
        store_panel_step<T, kPlanes>(steps[s], unit * L::kSteps + s, half, panel);
    }
  }
}

template <int kValue>
struct Count {
  static constexpr int value = kValue;
};

// Calls f with m, but at most kMax, as a type.
template <int kMax, class F>
void with_rows(size_t m, F&& f) {
  if constexpr (kMax > 1)
    if (m < kMax) return with_rows<kMax - 1>(m, f);
  f(Count<kMax>{});
}

template <class T, Planes kPlanes>
void multiply_matrix(const Matrix& w, const uint8_t* packed, size_t m, size_t begin, size_t end,
                     float* y, size_t ldy, uint8_t* scratch) {
  constexpr bool kReal = kPlanes == Planes::real;
  constexpr int kMax = kReal ? kRealTileRows : kPlanes == Planes::two ? kTwoTileRows : kTileRows;
  const size_t stride = packed_bytes(w, kPlanes), bytes = panel_bytes(w, kPlanes);
  const size_t block = panels_at_a_time(w, kPlanes) * kPanelRows;
  for (size_t first = begin; first < end; first += block) {
    const size_t last = end - first < block ? end : first + block;
    uint8_t* room = scratch;
    for (size_t n = first; n < last; n += kPanelRows, room += bytes)
      fill_panel<T, kPlanes>(w, n, end, panel_in(room, w, kPlanes));
    for (size_t i = 0; i < m; i += kMax) {
      const uint8_t* x = packed + i * stride;
      room = scratch;
      for (size_t n = first; n < last; n += kPanelRows, room += bytes) {
        const Panel panel = panel_in(room, w, kPlanes);
        const Tile tile{y + i * ldy + (n - begin), ldy,
                        last - n < kPanelRows ? last - n : kPanelRows};
        with_rows<kMax>(m - i, [&](auto rows) {
          if constexpr (kReal)
            multiply_real_tile<rows.value>(panel, x, stride, w.cols / kGroup, tile);
          else
            multiply_tile<T, kPlanes, rows.value>(panel, x, stride, w.cols / kGroup, tile);
        });
      }
    }
  }
}

// Up to this many rows of activations, unpacking weights anew for each four costs less than a
// panel.
constexpr size_t kMaxVectors = 8;
// Weight rows that stay in the cache from one four to the next.
constexpr size_t kVectorBlock = 32;

template <class T, Planes kPlanes>
void multiply_planes(const Matrix& w, const uint8_t* packed, size_t m, size_t begin, size_t end,
                     float* y, size_t ldy, uint8_t* scratch) {
  if (m > kMaxVectors) {
    multiply_matrix<T, kPlanes>(w, packed, m, begin, end, y, ldy, scratch);
    return;
  }
  const size_t stride = packed_bytes(w, kPlanes);
  const size_t block = m <= 2 || m == 4 ? end - begin : kVectorBlock;
  for (size_t n = begin; n < end; n += block) {
    const size_t last = end - n < block ? end : n + block;
    const auto rows = [&](size_t i, auto count, auto at_a_time) {
      multiply_vectors<T, kPlanes, count.value, at_a_time.value>(w, packed + i * stride, n, last,
                                                                 y + (n - begin) + i * ldy, ldy);
    };
    size_t i = 0;
    for (; i + 4 <= m; i += 4) rows(i, Count<4>{}, Count<kVectorSums / 4>{});
    for (; i + 2 <= m; i += 2) rows(i, Count<2>{}, Count<kVectorSums / 2>{});
    if (i == m) continue;
    if (w.row_bytes < kLongRow)
      rows(i, Count<1>{}, Count<4>{});
    else
      rows(i, Count<1>{}, Count<1>{});
  }
}

void multiply(const Matrix& w, Planes planes, const uint8_t* packed, size_t m, size_t begin,
              size_t end, float* y, size_t ldy, uint8_t* scratch) {
  if (begin == end) return;
  with_any_type(w, [&](auto type) {
    using T = decltype(type);
    const auto run = [&](auto kernel) { kernel(w, packed, m, begin, end, y, ldy, scratch); };
    if constexpr (!kFloats<T>) {
      if (planes == Planes::one) run(multiply_planes<T, Planes::one>);
      if (planes == Planes::two) run(multiply_planes<T, Planes::two>);
    }
    if (planes == Planes::real) run(multiply_planes<T, Planes::real>);
  });
}

void convert(const float* x, size_t n, Number number, void* out) {
  if (number == Number::f32) return generic_loops().convert(x, n, number, out);
  auto* half = static_cast<uint16_t*>(out);
  if (number == Number::bf16)
    for (size_t i = 0; i < n; ++i) half[i] = f32_to_bf16(x[i]);
  else
    for (size_t i = 0; i < n; ++i) half[i] = f32_to_f16(x[i]);
}

}  // namespace
}  // namespace mlxcpp::kernels::quant

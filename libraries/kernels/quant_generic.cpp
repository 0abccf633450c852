#include <cmath>
#include <cstring>

#include "kernels/quant_unpack.h"

// The loops in plain C++: the reference of the others, and what runs where there are none.

namespace mlxcpp::kernels::quant {
namespace {

constexpr size_t align_up(size_t n) { return (n + 63) / 64 * 64; }

// mxfp8 has no integers, so real_row and not unpack_row reads it.
void mxfp8_row(const Matrix& w, size_t n, Number arithmetic, float* out) {
  const uint8_t* p = w.data + n * w.row_bytes;
  const uint8_t* scales = w.scales + n * (w.cols / kGroup);
  for (int k = 0; k < w.cols; ++k)
    out[k] = round_to(arithmetic,
                      e4m3_to_f32(p[k]) * round_to(arithmetic, e8m0_to_f32(scales[k / kGroup])));
}

// One weight row taken apart.
struct Row {
  int16_t* q;    // [cols], offset taken off
  float* scale;  // [cols / kSubgroup]
  float* min;    // the same; not set if the type has none
};

bool unpack_row(const Matrix& w, size_t n, const Row& row) {
  bool has_min = false;
  with_type(w, [&](auto type) {
    has_min = type.kHasMin;
    Group group;
    for (int g = 0; g < w.cols / kGroup; ++g) {
      type.unpack(w, n, g, group);
      for (int i = 0; i < kGroup; ++i)
        row.q[g * kGroup + i] = static_cast<int16_t>(group.q[i] - type.kOffset);
      for (int h = 0; h < 2; ++h) {
        row.scale[2 * g + h] = group.scale[h];
        if constexpr (type.kHasMin) row.min[2 * g + h] = group.min[h];
      }
    }
  });
  return has_min;
}

// A packed row of activations: a scale per group and the scaled sum of each subgroup, then the
// planes; or floats as they are.
struct PackedRow {
  float* scale;
  float* sum;
  int8_t* hi;
  int8_t* lo;
};

PackedRow packed_row(const Matrix& w, uint8_t* p) {
  const size_t groups = w.cols / kGroup;
  PackedRow r;
  r.scale = reinterpret_cast<float*>(p);
  r.sum = r.scale + groups;
  r.hi = reinterpret_cast<int8_t*>(r.sum + 2 * groups);
  r.lo = r.hi + w.cols;
  return r;
}

size_t packed_bytes(const Matrix& w, Planes planes) {
  const size_t k = w.cols;
  return align_up(planes == Planes::real ? 4 * k
                                         : 12 * (k / kGroup) + k * static_cast<size_t>(planes));
}

// Rounds 32 activations to integers of the given magnitude; returns the scale. A group that holds
// an infinity or NaN gets a NaN as its scale, so that it shows in the result.
float round_group(const float* x, float magnitude, int32_t* q) {
  float largest = 0.0f;
  bool finite = true;
  for (int i = 0; i < kGroup; ++i) {
    finite = finite && std::isfinite(x[i]);
    largest = std::fmax(largest, std::fabs(x[i]));
  }
  if (!finite || largest < kSmallestPeak) {
    for (int i = 0; i < kGroup; ++i) q[i] = 0;
    return finite ? 0.0f : NAN;
  }
  const float inverse = magnitude / largest;
  for (int i = 0; i < kGroup; ++i) q[i] = static_cast<int32_t>(std::nearbyint(x[i] * inverse));
  return largest / magnitude;
}

void pack(const Matrix& w, Planes planes, const void* x, Number number, uint8_t* packed) {
  const auto* p = static_cast<const uint8_t*>(x);
  if (planes == Planes::real) {
    auto* out = reinterpret_cast<float*>(packed);
    for (int k = 0; k < w.cols; ++k) out[k] = load_number(p, number, k);
    return;
  }
  const bool two = planes == Planes::two;
  const PackedRow row = packed_row(w, packed);
  for (int g = 0; g < w.cols / kGroup; ++g) {
    float values[kGroup];
    int32_t q[kGroup];
    for (int i = 0; i < kGroup; ++i) values[i] = load_number(p, number, g * kGroup + i);
    row.scale[g] = round_group(values, two ? kTwoPlanesMax : kOnePlaneMax, q);
    int32_t sum[2] = {0, 0};
    for (int i = 0; i < kGroup; ++i) {
      sum[i / kSubgroup] += q[i];
      const int32_t hi = two ? (q[i] + 64) >> 7 : q[i];
      row.hi[g * kGroup + i] = static_cast<int8_t>(hi);
      if (two) row.lo[g * kGroup + i] = static_cast<int8_t>(q[i] - hi * 128);
    }
    for (int h = 0; h < 2; ++h) row.sum[2 * g + h] = row.scale[g] * static_cast<float>(sum[h]);
  }
}

int32_t dot16(const int16_t* a, const int8_t* b) {
  int32_t sum = 0;
  for (int i = 0; i < kSubgroup; ++i) sum += a[i] * b[i];
  return sum;
}

float dot_planes(const Row& w, bool has_min, const PackedRow& x, int subgroups, bool two) {
  float sum = 0.0f;
  for (int s = 0; s < subgroups; ++s) {
    int32_t d = dot16(w.q + s * kSubgroup, x.hi + s * kSubgroup);
    if (two) d = d * 128 + dot16(w.q + s * kSubgroup, x.lo + s * kSubgroup);
    sum += static_cast<float>(d) * (w.scale[s] * x.scale[s / 2]);
    if (has_min) sum += w.min[s] * x.sum[s];
  }
  return sum;
}

float dot_real(const float* a, const float* b, int k) {
  // Partial sums: closer to the true value than one long sum, and the compiler can vectorise.
  float part[kSubgroup] = {};
  for (int i = 0; i < k; i += kSubgroup)
    for (int j = 0; j < kSubgroup; ++j) part[j] += a[i + j] * b[i + j];
  float sum = 0.0f;
  for (const float p : part) sum += p;
  return sum;
}

size_t scratch_bytes(const Matrix& w, Planes planes, size_t) {
  const size_t k = w.cols;
  return align_up(planes == Planes::real ? 4 * k : 2 * k + 8 * (k / kSubgroup));
}

void multiply(const Matrix& w, Planes planes, const uint8_t* packed, size_t m, size_t begin,
              size_t end, float* y, size_t ldy, uint8_t* scratch) {
  const size_t stride = packed_bytes(w, planes);
  if (planes == Planes::real) {
    auto* row = reinterpret_cast<float*>(scratch);
    for (size_t n = begin; n < end; ++n) {
      dequantize_row(w, n, Number::f32, row);
      for (size_t i = 0; i < m; ++i)
        y[i * ldy + (n - begin)] =
            dot_real(row, reinterpret_cast<const float*>(packed + i * stride), w.cols);
    }
    return;
  }
  const int subgroups = w.cols / kSubgroup;
  Row row;
  row.scale = reinterpret_cast<float*>(scratch);
  row.min = row.scale + subgroups;
  row.q = reinterpret_cast<int16_t*>(row.min + subgroups);
  for (size_t n = begin; n < end; ++n) {
    const bool has_min = unpack_row(w, n, row);
    for (size_t i = 0; i < m; ++i) {
      const PackedRow x = packed_row(w, const_cast<uint8_t*>(packed) + i * stride);
      y[i * ldy + (n - begin)] = dot_planes(row, has_min, x, subgroups, planes == Planes::two);
    }
  }
}

void convert(const float* x, size_t n, Number number, void* out) {
  if (number == Number::f32) {
    std::memcpy(out, x, n * sizeof(float));
    return;
  }
  auto* half = static_cast<uint16_t*>(out);
  if (number == Number::bf16)
    for (size_t i = 0; i < n; ++i) half[i] = f32_to_bf16(x[i]);
  else
    for (size_t i = 0; i < n; ++i) half[i] = f32_to_f16(x[i]);
}

}  // namespace

void dequantize_row(const Matrix& w, size_t n, Number arithmetic, float* out) {
  if (w.mode == QuantMode::mxfp8) return mxfp8_row(w, n, arithmetic, out);
  // The integers of 4-bit floats are twice the values, and their scales half.
  const bool fp4 = w.mode == QuantMode::mxfp4 || w.mode == QuantMode::nvfp4;
  const float unit = fp4 ? 0.5f : 1.0f;
  const auto round = [arithmetic](float f) { return round_to(arithmetic, f); };
  with_type(w, [&](auto type) {
    Group group;
    for (int g = 0; g < w.cols / kGroup; ++g) {
      type.unpack(w, n, g, group);
      for (float& s : group.scale) s = round(s / unit);
      for (int i = 0; i < kGroup; ++i) {
        const int h = i / kSubgroup;
        float v = round(group.scale[h] * (unit * static_cast<float>(group.q[i] - type.kOffset)));
        if constexpr (type.kHasMin) v = round(v + group.min[h]);
        out[g * kGroup + i] = v;
      }
    }
  });
}

const Loops& generic_loops() {
  static constexpr Loops kLoops{packed_bytes, pack, scratch_bytes, multiply, convert};
  return kLoops;
}

}  // namespace mlxcpp::kernels::quant

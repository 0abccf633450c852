#include "vlm/media/resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <optional>

#include "core/error.h"
#include "kernels/resample_kernels.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::media {
namespace {

double triangle(double x) {
  x = std::abs(x);
  return x < 1 ? 1 - x : 0;
}

double cubic(double x) {  // Keys, IEEE ASSP 29 (1981)
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

double sinc(double x) {
  x *= std::numbers::pi;
  return x == 0 ? 1 : std::sin(x) / x;
}
double lanczos(double x) { return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0; }

struct Window {
  double (*weight)(double x);
  double support;
};

Window window(Filter filter) {
  switch (filter) {
    case Filter::bicubic:
      return {cubic, 2};
    case Filter::lanczos:
      return {lanczos, 3};
    default:
      return {triangle, 1};
  }
}

// How each output of one axis sums inputs [first, first + count), in fixed point.
struct Taps {
  struct Output {
    int first, count;
  };
  std::vector<Output> outputs;
  std::vector<int32_t> weights;  // `most` for each output
  int most = 0, precision = 0;
  bool narrow = false;

  const int32_t* of(size_t output) const { return weights.data() + output * most; }
};

// As Pillow and torchvision round: towards zero after 0.5 is added.
int rounded(double x) {
  x += 0.5;
  return static_cast<int>(x);
}

// Torchvision's: the most bits with which the largest weight fits int16.
int narrow_precision(double largest) {
  int precision = 0;
  while (precision < 22 && rounded(largest * (1 << (precision + 1))) < (1 << 15)) ++precision;
  return precision;
}

Taps make_taps(int in, int out, Filter filter, Backend backend) {
  const Window w = window(filter);
  const double scale = static_cast<double>(in) / out;
  const double stretch = std::max(scale, 1.0), support = w.support * stretch;
  Taps taps;
  taps.most = static_cast<int>(std::ceil(support)) * 2 + 1;
  std::vector<double> weights(static_cast<size_t>(taps.most) * out);
  double largest = 0;
  for (int i = 0; i < out; ++i) {
    const double center = (i + 0.5) * scale;
    const int first = std::max(0, rounded(center - support));
    const int count = std::min(in, rounded(center + support)) - first;
    double* to = weights.data() + static_cast<size_t>(taps.most) * i;
    double total = 0;
    for (int t = 0; t < count; ++t) {
      to[t] = w.weight((t + first - center + 0.5) * (1.0 / stretch));
      total += to[t];
    }
    for (int t = 0; t < count; ++t) {
      if (total != 0) to[t] /= total;
      largest = std::max(largest, to[t]);
    }
    taps.outputs.push_back({first, count});
  }
  taps.narrow = backend == Backend::torchvision;
  taps.precision = taps.narrow ? narrow_precision(largest) : 32 - 8 - 2;
  taps.weights.reserve(weights.size());
  for (const double x : weights)
    taps.weights.push_back(static_cast<int32_t>(x * (1 << taps.precision) + (x < 0 ? -0.5 : 0.5)));
  return taps;
}

// Rows [first, first + count) of the picture, each `taps.outputs.size()` pixels wide.
Picture along_rows(const Picture& in, const Taps& taps, int first, int count) {
  const auto width = static_cast<int>(taps.outputs.size());
  Picture out = new_picture(width, count);
  const auto& k = kernels::resample_kernels();
  constexpr size_t kRows = kernels::kResampleRows;
  const size_t in_bytes = size_t{3} * in.width, out_bytes = size_t{3} * width;
  const auto block = [&](size_t begin, size_t end) {
    std::vector<uint8_t> woven(kRows * in_bytes), sums(kRows * out_bytes), rest;
    for (size_t y = begin; y < end; y += kRows) {
      const size_t rows = std::min(kRows, end - y);
      const uint8_t* from = in.row(first + static_cast<int>(y));
      uint8_t* to = out.row(static_cast<int>(y));
      if (rows < kRows) {  // the last ones, filled up
        rest.assign(kRows * std::max(in_bytes, out_bytes), 0);
        std::memcpy(rest.data(), from, rows * in_bytes);
        from = rest.data();
      }
      k.interleave(from, in_bytes, in_bytes, woven.data());
      for (int x = 0; x < width; ++x) {
        const auto [at, n] = taps.outputs[x];
        k.pixel_sums(woven.data() + size_t{3} * kRows * at, taps.of(x), n, taps.precision,
                     taps.narrow, sums.data() + size_t{3} * kRows * x);
      }
      if (rows < kRows) {
        k.separate(sums.data(), out_bytes, rest.data(), out_bytes);
        std::memcpy(to, rest.data(), rows * out_bytes);
      } else {
        k.separate(sums.data(), out_bytes, to, out_bytes);
      }
    }
  };
  kernels::parallel_for(static_cast<size_t>(count), 2 * kRows, block);
  return out;
}

// `in` begins at row `first` of the picture that the taps count by.
Picture along_columns(const Picture& in, const Taps& taps, int first) {
  Picture out = new_picture(in.width, static_cast<int>(taps.outputs.size()));
  const auto& k = kernels::resample_kernels();
  const size_t bytes = size_t{3} * in.width;
  kernels::parallel_for(taps.outputs.size(), 16, [&](size_t begin, size_t end) {
    for (size_t y = begin; y < end; ++y) {
      const auto [at, n] = taps.outputs[y];
      k.column_sums(in.row(at - first), bytes, taps.of(y), n, taps.precision, taps.narrow,
                    out.row(static_cast<int>(y)), bytes);
    }
  });
  return out;
}

// Where each output of nearest takes its input. Summed up step by step, as Pillow does it: products
// would round otherwise.
std::vector<int> nearest_inputs(int in, int out) {
  const double step = static_cast<double>(in) / out;
  std::vector<int> inputs;
  double at = step * 0.5;
  for (int i = 0; i < out; ++i, at += step)
    inputs.push_back(std::min(in - 1, static_cast<int>(at)));
  return inputs;
}

Picture nearest(const Picture& in, int width, int height) {
  Picture out = new_picture(width, height);
  const auto columns = nearest_inputs(in.width, width), rows = nearest_inputs(in.height, height);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      std::memcpy(out.row(y) + size_t{3} * x, in.row(rows[y]) + size_t{3} * columns[x], 3);
  return out;
}

}  // namespace

Picture resize(const Picture& picture, int width, int height, Filter filter, Backend backend) {
  if (width <= 0 || height <= 0)
    throw Error("pictures cannot be resized to {} x {}: both sides must be positive", width,
                height);
  if (width == picture.width && height == picture.height) return picture;
  if (filter == Filter::nearest) return nearest(picture, width, height);

  int first = 0, last = picture.height;  // rows that the second pass looks at
  std::optional<Taps> columns;
  if (height != picture.height) {
    columns = make_taps(picture.height, height, filter, backend);
    first = columns->outputs.front().first;
    last = columns->outputs.back().first + columns->outputs.back().count;
  }
  if (width == picture.width) return along_columns(picture, *columns, 0);
  const Picture narrowed =
      along_rows(picture, make_taps(picture.width, width, filter, backend), first, last - first);
  return columns ? along_columns(narrowed, *columns, first) : narrowed;
}

Picture crop(const Picture& picture, int x, int y, int width, int height) {
  if (x < 0 || y < 0 || width <= 0 || height <= 0 || width > picture.width - x ||
      height > picture.height - y)
    throw Error("a crop of {} x {} at ({}, {}) does not lie in a picture of {} x {}", width, height,
                x, y, picture.width, picture.height);
  Picture out = new_picture(width, height);
  for (int row = 0; row < height; ++row)
    std::memcpy(out.row(row), picture.row(y + row) + size_t{3} * x, size_t{3} * width);
  return out;
}

Filter filter_from_number(int resample, std::string_view where) {
  switch (resample) {
    case 0:
      return Filter::nearest;
    case 1:
      return Filter::lanczos;
    case 2:
      return Filter::bilinear;
    case 3:
      return Filter::bicubic;
    default:
      throw Error(
          "{}: 'resample' is {}, expected 0 (nearest), 1 (lanczos), 2 (bilinear) or 3 "
          "(bicubic)",
          where, resample);
  }
}

}  // namespace mlxcpp::media

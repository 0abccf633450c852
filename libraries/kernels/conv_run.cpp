#include "kernels/conv_run.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/conv_kernels.h"
#include "kernels/floats.h"
#include "kernels/matmul_kernels.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::kernels {

Floats& conv_scratch(int which) {
  thread_local Floats buffers[4];
  return buffers[which];
}

void pack_panel(const PanelSource& s, size_t row, size_t rows, size_t columns, float* panel) {
  const auto pack = matmul_kernels().pack[static_cast<size_t>(s.type)];
  const size_t size = s.type == FloatType::f32 ? 4 : 2;
  if (rows < columns) std::fill_n(panel, s.length * columns, 0.0f);
  pack(static_cast<const std::byte*>(s.weight) + row * s.row_stride * size, 1,
       static_cast<ptrdiff_t>(s.row_stride), s.length, rows, panel, columns);
}

ConvShape conv_shape(const mlx::core::Shape& x, const mlx::core::Shape& weight,
                     const mlx::core::Shape& y, const Conv2dOptions& o) {
  const auto size = [](int n) { return static_cast<size_t>(n); };
  ConvShape s{size(x[0]), size(x[1]), size(x[2]), size(x[3]), size(y[3]), size(y[1]),
              size(y[2]), {},         {},         {},         {},         size(o.groups)};
  for (int i = 0; i < 2; ++i) {
    s.kernel[i] = size(weight[1 + i]);
    s.stride[i] = size(o.stride[i]);
    s.padding[i] = size(o.padding[i]);
    s.dilation[i] = size(o.dilation[i]);
  }
  return s;
}

namespace {

constexpr size_t kItems = 32;  // pieces of work that a large machine's threads find enough

// Rows or columns that the windows reach over, the padding before the picture included.
size_t reach(const ConvShape& s, int axis) {
  const size_t windows = axis == 0 ? s.out_height : s.out_width;
  return (windows - 1) * s.stride[axis] + s.dilation[axis] * (s.kernel[axis] - 1) + 1;
}

bool padded(const ConvShape& s) {
  return s.padding[0] > 0 || s.padding[1] > 0 || reach(s, 0) > s.height || reach(s, 1) > s.width;
}

// The pictures in the middle of zeros: [n][high][wide][channels].
void pad(const ConvShape& s, const float* x, size_t high, size_t wide, float* to) {
  const size_t from_row = s.width * s.channels, to_row = wide * s.channels;
  const size_t left = s.padding[1] * s.channels;
  parallel_for(s.n * high, std::max<size_t>(1, (1 << 14) / to_row), [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r) {
      float* row = to + r * to_row;
      const size_t y = r % high - s.padding[0];  // beyond the edge when it wraps around, too
      if (y >= s.height) {
        std::fill_n(row, to_row, 0.0f);
        continue;
      }
      std::fill_n(row, left, 0.0f);
      std::copy_n(x + (r / high * s.height + y) * from_row, from_row, row + left);
      std::fill(row + left + from_row, row + to_row, 0.0f);
    }
  });
}

}  // namespace

void run_conv_direct(const ConvShape& s, const ConvArrays& a) {
  const ConvKernels& kernels = conv_kernels();
  const size_t group_in = s.channels / s.groups, group_out = s.outputs / s.groups;
  const bool pairs = kernels.multiply_bf16 && a.x_type == FloatType::bf16 &&
                     a.weight_type == FloatType::bf16 && group_in % 2 == 0;
  const bool narrow = !pairs && group_out <= kernels.columns / 2;
  const auto multiply = pairs    ? kernels.multiply_bf16
                        : narrow ? kernels.multiply_narrow
                                 : kernels.multiply;
  const size_t columns = narrow ? kernels.columns / 2 : kernels.columns;
  const size_t most_rows = narrow ? kernels.narrow_rows : kernels.rows;
  const size_t unit = pairs ? 2 : 1;  // channels in 32 bits

  // Rows are read in place unless they must be f32 first.
  const size_t x_count = s.n * s.height * s.width * s.channels;
  Floats converted;
  const auto* x = static_cast<const float*>(a.x);
  if (!pairs && a.x_type != FloatType::f32) {
    float* to = converted.reserve(x_count);
    const auto pack = matmul_kernels().pack[static_cast<size_t>(a.x_type)];
    constexpr size_t kPiece = 1 << 14;
    parallel_for(x_count, kPiece, [&](size_t b, size_t e) {
      pack(static_cast<const std::byte*>(a.x) + 2 * b, static_cast<ptrdiff_t>(e - b), 1, 1, e - b,
           to + b, e - b);
    });
    x = to;
  }
  const std::vector<float> zeros(group_in / unit + 1);

  // With few channels the pixels that a row of the filter meets are read as one run, from a copy
  // that has the zeros around it.
  constexpr size_t kFewChannels = 16;
  const bool runs = !pairs && s.groups == 1 && s.dilation[1] == 1 && s.channels <= kFewChannels;
  Floats copy;
  size_t high = s.height, wide = s.width;
  if (runs && padded(s)) {
    high = std::max(s.height + s.padding[0], reach(s, 0));
    wide = std::max(s.width + s.padding[1], reach(s, 1));
    float* to = copy.reserve(s.n * high * wide * s.channels);
    pad(s, x, high, wide, to);
    x = to;
  }

  const size_t taps = runs ? s.kernel[0] : s.taps();
  const size_t units = runs ? s.kernel[1] * s.channels : group_in / unit;
  const PanelSource source{a.weight, pairs ? FloatType::f32 : a.weight_type, taps * units,
                           taps * units};
  const size_t panels = (group_out + columns - 1) / columns, pixels = s.pixels();
  const size_t tiles = (pixels + most_rows - 1) / most_rows;
  const size_t parts = std::clamp<size_t>((kItems + panels * s.groups - 1) / (panels * s.groups), 1,
                                          std::max<size_t>(1, tiles / 8));
  const size_t part_tiles = (tiles + parts - 1) / parts;
  const size_t y_size = a.y_type == FloatType::f32 ? 4 : 2;
  const size_t picture = s.out_height * s.out_width;

  parallel_for(parts * panels * s.groups, 1, [&](size_t item, size_t) {
    const size_t part = item % parts, panel_index = item / parts % panels,
                 group = item / parts / panels;
    const size_t first = panel_index * columns, width = std::min(columns, group_out - first);
    const size_t output = group * group_out + first;
    float* panel = conv_scratch(0).reserve(taps * units * columns);
    pack_panel(source, output, width, columns, panel);

    alignas(64) float sums[kMostConvRows * kMostConvColumns];
    std::vector<const float*> rows(taps * most_rows);
    const size_t begin_tile = part * part_tiles,
                 end_tile = std::min(tiles, begin_tile + part_tiles);
    // Tiles of nearly equal height: none of one row beside full ones.
    for (size_t tile = begin_tile; tile < end_tile; ++tile) {
      const size_t begin = tile * pixels / tiles, m = (tile + 1) * pixels / tiles - begin;
      size_t image = begin / picture, oy = begin % picture / s.out_width, ox = begin % s.out_width;
      const auto next = [&] {
        if (++ox < s.out_width) return;
        ox = 0;
        if (++oy < s.out_height) return;
        oy = 0;
        ++image;
      };
      for (size_t i = 0; i < m; ++i, next()) {
        if (runs) {
          for (size_t ky = 0; ky < s.kernel[0]; ++ky) {
            const size_t y = oy * s.stride[0] + ky * s.dilation[0];
            rows[ky * m + i] = x + ((image * high + y) * wide + ox * s.stride[1]) * s.channels;
          }
          continue;
        }
        for (size_t ky = 0; ky < s.kernel[0]; ++ky)
          for (size_t kx = 0; kx < s.kernel[1]; ++kx) {
            // Beyond the edge when it wraps around, too.
            const size_t iy = oy * s.stride[0] + ky * s.dilation[0] - s.padding[0];
            const size_t ix = ox * s.stride[1] + kx * s.dilation[1] - s.padding[1];
            const size_t at = ((image * s.height + iy) * s.width + ix) * s.channels;
            rows[(ky * s.kernel[1] + kx) * m + i] =
                iy < s.height && ix < s.width ? x + (at + group * group_in) / unit : zeros.data();
          }
      }
      multiply(rows.data(), m, taps, units, panel, sums, columns, false);
      for (size_t i = 0; i < m; ++i) {
        const size_t at = (begin + i) * s.outputs + output;
        const float* bias =
            a.bias ? a.bias + (a.bias_each ? (begin + i) / picture * s.outputs : 0) + output
                   : nullptr;
        kernels.finish[static_cast<size_t>(a.y_type)](
            sums + i * columns, bias,
            a.residual ? static_cast<const std::byte*>(a.residual) + at * y_size : nullptr,
            static_cast<std::byte*>(a.y) + at * y_size, width);
      }
    }
  });
}

void run_conv_depthwise(const ConvShape& s, const ConvArrays& a) {
  const ConvKernels& kernels = conv_kernels();
  const size_t taps = s.taps(), channels = s.channels;
  const size_t x_size = a.x_type == FloatType::f32 ? 4 : 2,
               y_size = a.y_type == FloatType::f32 ? 4 : 2;
  // [channels][taps] to f32 [taps][channels]
  Floats turned;
  float* weights = turned.reserve(taps * channels);
  matmul_kernels().pack[static_cast<size_t>(a.weight_type)](
      a.weight, 1, static_cast<ptrdiff_t>(taps), taps, channels, weights, channels);
  const std::vector<float> zeros(channels);
  const size_t grain = std::max<size_t>(1, (1 << 14) / (taps * channels));
  parallel_for(s.pixels(), grain, [&](size_t begin, size_t end) {
    float* sums = conv_scratch(0).reserve(channels);
    std::vector<const void*> rows(taps);
    for (size_t pixel = begin; pixel < end; ++pixel) {
      const size_t ox = pixel % s.out_width, oy = pixel / s.out_width % s.out_height;
      const size_t image = pixel / s.out_width / s.out_height;
      for (size_t t = 0; t < taps; ++t) {
        const size_t iy = oy * s.stride[0] + t / s.kernel[1] * s.dilation[0] - s.padding[0];
        const size_t ix = ox * s.stride[1] + t % s.kernel[1] * s.dilation[1] - s.padding[1];
        rows[t] = iy < s.height && ix < s.width
                      ? static_cast<const std::byte*>(a.x) +
                            ((image * s.height + iy) * s.width + ix) * channels * x_size
                      : reinterpret_cast<const std::byte*>(zeros.data());
      }
      kernels.depthwise[static_cast<size_t>(a.x_type)](rows.data(), taps, weights, channels, sums);
      kernels.finish[static_cast<size_t>(a.y_type)](
          sums, a.bias ? a.bias + (a.bias_each ? image * s.outputs : 0) : nullptr,
          a.residual ? static_cast<const std::byte*>(a.residual) + pixel * channels * y_size
                     : nullptr,
          static_cast<std::byte*>(a.y) + pixel * channels * y_size, channels);
    }
  });
}

void run_conv(const ConvShape& s, const ConvArrays& a) {
  if (s.pixels() == 0 || s.outputs == 0) return;
  if (s.groups == s.channels && s.groups == s.outputs && s.groups > 1)
    run_conv_depthwise(s, a);
  else if (winograd_fits(s))
    run_conv_winograd(s, a);
  else
    run_conv_direct(s, a);
}

bool run_bf16_matmul(const void* a, size_t a_stride, const void* b, size_t b_stride,
                     const float* bias, void* y, FloatType y_type, size_t m, size_t n, size_t k) {
  const ConvKernels& kernels = conv_kernels();
  if (!kernels.multiply_bf16 || k % 2 != 0 || a_stride % 2 != 0 || b_stride % 2 != 0) return false;
  const size_t columns = kernels.columns, panels = (n + columns - 1) / columns;
  const size_t tiles = (m + kernels.rows - 1) / kernels.rows;
  const size_t parts = std::clamp<size_t>((kItems + panels - 1) / panels, 1, (tiles + 7) / 8);
  const size_t part_tiles = (tiles + parts - 1) / parts;
  const PanelSource source{b, FloatType::f32, b_stride / 2, k / 2};
  const size_t y_size = y_type == FloatType::f32 ? 4 : 2;
  parallel_for(parts * panels, 1, [&](size_t item, size_t) {
    const size_t part = item % parts, first = item / parts * columns;
    const size_t width = std::min(columns, n - first);
    float* panel = conv_scratch(0).reserve(k / 2 * columns);
    pack_panel(source, first, width, columns, panel);
    alignas(64) float sums[kMostConvRows * kMostConvColumns];
    const float* rows[kMostConvRows];
    const size_t end_tile = std::min(tiles, (part + 1) * part_tiles);
    for (size_t tile = part * part_tiles; tile < end_tile; ++tile) {
      const size_t begin = tile * m / tiles, count = (tile + 1) * m / tiles - begin;
      for (size_t i = 0; i < count; ++i)
        rows[i] = static_cast<const float*>(a) + (begin + i) * (a_stride / 2);
      kernels.multiply_bf16(rows, count, 1, k / 2, panel, sums, columns, false);
      for (size_t i = 0; i < count; ++i)
        kernels.finish[static_cast<size_t>(y_type)](
            sums + i * columns, bias ? bias + first : nullptr, nullptr,
            static_cast<std::byte*>(y) + ((begin + i) * n + first) * y_size, width);
    }
  });
  return true;
}

}  // namespace mlxcpp::kernels

#include <algorithm>
#include <vector>

#include "kernels/conv_kernels.h"
#include "kernels/conv_run.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::kernels {
namespace {

// A picture of x as planes, so that the pixels that one element of a filter meets in an output row
// follow each other in memory, at any stride: [c][column % stride][row][column / stride], with
// its zeros around.
struct Planes {
  size_t high, wide, stride, plane;

  explicit Planes(const ConvShape& s)
      : high(std::max(s.height + s.padding[0],
                      (s.out_height - 1) * s.stride[0] + s.dilation[0] * (s.kernel[0] - 1) + 1)),
        wide((std::max(s.width + s.padding[1],
                       (s.out_width - 1) * s.stride[1] + s.dilation[1] * (s.kernel[1] - 1) + 1) +
              s.stride[1] - 1) /
             s.stride[1]),
        stride(s.stride[1]),
        plane(high * wide) {}

  size_t size(const ConvShape& s) const { return s.channels * stride * plane; }

  // What lies outside the picture is left as it is.
  void fill(const ConvShape& s, const float* x, float* to) const {
    for (size_t y = 0; y < s.height; ++y)
      for (size_t i = 0; i < s.width; ++i, x += s.channels) {
        const size_t column = i + s.padding[1];
        float* at = to + column % stride * plane + (y + s.padding[0]) * wide + column / stride;
        for (size_t c = 0; c < s.channels; ++c) at[c * stride * plane] = x[c];
      }
  }

  // Where the pixels start that element (c, ky, kx) meets in output row oy.
  size_t start(const ConvShape& s, size_t c, size_t ky, size_t kx, size_t oy) const {
    const size_t column = kx * s.dilation[1];
    return (c * stride + column % stride) * plane + (oy * s.stride[0] + ky * s.dilation[0]) * wide +
           column / stride;
  }
};

}  // namespace

// dw[c, ky, kx][k], one picture after the other: the sum over output pixels (oy, ox) of what
// (c, ky, kx) meets there times dy[oy, ox, k]. That is the loop of the forward pass, a tap for each
// output row, with dy as the panel; the bias meets ones.
void run_conv_weight_grad(const ConvShape& s, const float* x, const float* dy, float* dw,
                          float* db) {
  const ConvKernels& kernels = conv_kernels();
  const bool narrow = s.outputs <= kernels.columns / 2;
  const auto multiply = narrow ? kernels.multiply_narrow : kernels.multiply;
  const size_t most_rows = narrow ? kernels.narrow_rows : kernels.rows;
  const size_t columns = narrow ? kernels.columns / 2 : kernels.columns;
  const size_t panels = (s.outputs + columns - 1) / columns;
  const size_t filter = s.taps(), rows = s.channels * filter + 1;
  const size_t tiles = (rows + most_rows - 1) / most_rows;
  const size_t pixels = s.out_height * s.out_width;
  // The split depends on sizes alone.
  constexpr size_t kItems = 32, kBandPixels = 1024;
  const size_t parts = std::clamp<size_t>(kItems / panels, 1, s.n);
  const size_t band = std::clamp<size_t>(kBandPixels / s.out_width, 1, s.out_height);
  Floats all(parts * panels * rows * columns);
  const Planes planes(s);
  const std::vector<float> ones(s.out_width, 1.0f);

  parallel_for(parts * panels, 1, [&](size_t item, size_t) {
    const size_t part = item / panels, first = item % panels * columns;
    const size_t used = std::min(columns, s.outputs - first);
    float* sums = all.data() + item * rows * columns;
    std::fill_n(sums, rows * columns, 0.0f);
    std::vector<float> picture(planes.size(s));
    float* room = conv_scratch(0).reserve(band * s.out_width * columns);
    std::vector<const float*> taps(band * most_rows);
    for (size_t image = part * s.n / parts; image < (part + 1) * s.n / parts; ++image) {
      planes.fill(s, x + image * s.height * s.width * s.channels, picture.data());
      for (size_t top = 0; top < s.out_height; top += band) {
        const size_t count = std::min(band, s.out_height - top);
        const float* d = dy + (image * pixels + top * s.out_width) * s.outputs + first;
        const float* panel = d;  // as it lies if its rows are the panel's
        if (s.outputs != columns) {
          for (size_t i = 0; i < count * s.out_width; ++i) {
            std::copy_n(d + i * s.outputs, used, room + i * columns);
            std::fill(room + i * columns + used, room + (i + 1) * columns, 0.0f);
          }
          panel = room;
        }
        // Tiles of nearly equal height: none of one row beside full ones.
        for (size_t tile = 0; tile < tiles; ++tile) {
          const size_t begin = tile * rows / tiles, m = (tile + 1) * rows / tiles - begin;
          for (size_t i = 0; i < m; ++i) {
            const size_t r = begin + i, c = r / filter, t = r % filter;
            const bool bias = r + 1 == rows;
            const float* at =
                bias ? ones.data()
                     : picture.data() + planes.start(s, c, t / s.kernel[1], t % s.kernel[1], top);
            const size_t step = bias ? 0 : s.stride[0] * planes.wide;
            for (size_t oy = 0; oy < count; ++oy) taps[oy * m + i] = at + oy * step;
          }
          multiply(taps.data(), m, count, s.out_width, panel, sums + begin * columns, columns,
                   true);
        }
      }
    }
  });
  parallel_for(s.outputs, 16, [&](size_t begin, size_t end) {
    for (size_t k = begin; k < end; ++k)
      for (size_t r = 0; r < rows; ++r) {
        float total = 0;
        for (size_t part = 0; part < parts; ++part)
          total += all.data()[((part * panels + k / columns) * rows + r) * columns + k % columns];
        if (r + 1 == rows)
          db[k] = total;
        else
          dw[(k * filter + r % filter) * s.channels + r / filter] = total;
      }
  });
}

}  // namespace mlxcpp::kernels

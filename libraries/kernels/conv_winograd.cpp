// Winograd's minimal filtering F(4x4, 3x3): 6x6 pixels and the filter are turned to 36 numbers
// each, multiplied there, and their products turned back to 4x4 pixels.
#include <algorithm>
#include <vector>

#include "kernels/ceil_div.h"
#include "kernels/conv_kernels.h"
#include "kernels/conv_run.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::kernels {
namespace {

constexpr size_t kPoints = 36, kOut = 4;
constexpr size_t kInputFloats = size_t{4} << 20;  // of a chunk of tiles, for the last-level cache
constexpr size_t kMostTiles = 128;                // of a chunk, whose sums stay in the second level
constexpr size_t kBlockChannels = 128;  // whose filters stay there, too, while all tiles pass

struct Tiles {
  explicit Tiles(const ConvShape& s)
      : rows(ceil_div(s.out_height, kOut)),
        columns(ceil_div(s.out_width, kOut)),
        count(s.n * rows * columns) {}
  size_t rows, columns, count;

  // Image, and the upper left of the pixels it gives.
  struct Place {
    size_t image, y, x;
  };
  Place at(size_t tile) const {
    return {tile / (rows * columns), tile / columns % rows * kOut, tile % columns * kOut};
  }
};

void transform_input(const ConvShape& s, const ConvArrays& a, const Tiles& tiles, size_t tile,
                     const void* zeros, float* v, size_t stride) {
  const size_t size = a.x_type == FloatType::f32 ? 4 : 2;
  const auto [image, y, x] = tiles.at(tile);
  const void* rows[kPoints];
  for (size_t i = 0; i < kPoints; ++i) {
    // Beyond the edge when it wraps around, too.
    const size_t iy = y + i / 6 - s.padding[0], ix = x + i % 6 - s.padding[1];
    rows[i] = iy < s.height && ix < s.width
                  ? static_cast<const std::byte*>(a.x) +
                        ((image * s.height + iy) * s.width + ix) * s.channels * size
                  : zeros;
  }
  conv_kernels().winograd_input[static_cast<size_t>(a.x_type)](rows, s.channels, v, stride);
}

// Tiles [begin, end) of a chunk, outputs [first, first + width).
void finish_tiles(const ConvShape& s, const ConvArrays& a, const Tiles& tiles, size_t first_tile,
                  size_t count, const float* sums, size_t stride, size_t first, size_t width) {
  const ConvKernels& kernels = conv_kernels();
  const size_t columns = kernels.columns, size = a.y_type == FloatType::f32 ? 4 : 2;
  alignas(64) float pixels[kOut * kOut * kMostConvColumns];
  for (size_t t = 0; t < count; ++t) {
    kernels.winograd_output(sums + t * columns, stride, columns, pixels);
    const auto [image, y, x] = tiles.at(first_tile + t);
    const float* bias = a.bias ? a.bias + (a.bias_each ? image * s.outputs : 0) + first : nullptr;
    for (size_t r = 0; r < kOut && y + r < s.out_height; ++r)
      for (size_t c = 0; c < kOut && x + c < s.out_width; ++c) {
        const size_t at =
            (((image * s.out_height + y + r) * s.out_width + x + c) * s.outputs + first) * size;
        kernels.finish[static_cast<size_t>(a.y_type)](
            pixels + (r * kOut + c) * columns, bias,
            a.residual ? static_cast<const std::byte*>(a.residual) + at : nullptr,
            static_cast<std::byte*>(a.y) + at, width);
      }
  }
}

}  // namespace

bool winograd_fits(const ConvShape& s) {
  const bool plain = s.kernel[0] == 3 && s.kernel[1] == 3 && s.stride[0] == 1 && s.stride[1] == 1 &&
                     s.dilation[0] == 1 && s.dilation[1] == 1 && s.groups == 1;
  constexpr size_t kFewChannels = 32, kFewTiles = 16;
  if (!plain || s.channels < kFewChannels || s.outputs < kFewChannels) return false;
  const size_t tiles = Tiles(s).count;
  return tiles >= kFewTiles && tiles * kOut * kOut <= s.pixels() * 3 / 2;
}

void run_conv_winograd(const ConvShape& s, const ConvArrays& a) {
  const ConvKernels& kernels = conv_kernels();
  const Tiles tiles(s);
  const size_t channels = s.channels, columns = kernels.columns;
  const size_t most =
      std::clamp<size_t>(kInputFloats / (kPoints * channels), kernels.rows, kMostTiles);
  const size_t chunks = ceil_div(tiles.count, most);
  const size_t blocks = ceil_div(channels, kBlockChannels);
  const size_t panels = ceil_div(s.outputs, columns);
  const PanelSource source{a.weight, a.weight_type, 9 * channels, 9 * channels};
  const std::vector<float> zeros(channels);

  Floats input;
  for (size_t chunk = 0; chunk < chunks; ++chunk) {
    const size_t first_tile = chunk * tiles.count / chunks;
    const size_t count = (chunk + 1) * tiles.count / chunks - first_tile;
    float* v = input.reserve(kPoints * most * channels);  // [36][count][channels]
    parallel_for(count, std::max<size_t>(1, (1 << 14) / (kPoints * channels)),
                 [&](size_t begin, size_t end) {
                   for (size_t t = begin; t < end; ++t)
                     transform_input(s, a, tiles, first_tile + t, zeros.data(), v + t * channels,
                                     count * channels);
                 });

    const size_t groups = ceil_div(count, kernels.rows);  // of tiles, multiplied at once
    parallel_for(panels, 1, [&](size_t panel_index, size_t) {
      const size_t first = panel_index * columns, width = std::min(columns, s.outputs - first);
      float* panel = conv_scratch(0).reserve(9 * channels * columns);  // [9][channels][columns]
      float* u = conv_scratch(1).reserve(kPoints * kBlockChannels * columns);
      float* sums = conv_scratch(2).reserve(kPoints * count * columns);  // [36][count][columns]
      pack_panel(source, first, width, columns, panel);
      for (size_t block = 0; block < blocks; ++block) {
        const size_t c = block * channels / blocks, length = (block + 1) * channels / blocks - c;
        kernels.winograd_weights(panel + c * columns, channels * columns, length * columns, u,
                                 length * columns);
        for (size_t p = 0; p < kPoints; ++p)
          for (size_t g = 0; g < groups; ++g) {
            const size_t t = g * count / groups, m = (g + 1) * count / groups - t;
            const float* rows[kMostConvRows];
            for (size_t i = 0; i < m; ++i) rows[i] = v + (p * count + t + i) * channels + c;
            kernels.multiply(rows, m, 1, length, u + p * length * columns,
                             sums + (p * count + t) * columns, columns, block > 0);
          }
      }
      finish_tiles(s, a, tiles, first_tile, count, sums, count * columns, first, width);
    });
  }
}

}  // namespace mlxcpp::kernels

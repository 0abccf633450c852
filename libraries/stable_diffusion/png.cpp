#include "stable_diffusion/png.h"

#include <string>

#include <fmt/ranges.h>

#include "core/atomic_file.h"

namespace mlxcpp::sd {
namespace {

constexpr int kFrame = 8;

int grid_columns(int count, int rows) {
  if (rows < 1 || rows > count)
    throw Error("rows: expected 1 to {}, the number of pictures; found {}", count, rows);
  return (count + rows - 1) / rows;
}

}  // namespace

mx::array to_pixels(const mx::array& images) {
  const auto x = mx::clip(mx::astype(images, mx::float32), mx::array(0.0f), mx::array(1.0f));
  return mx::astype(mx::round(x * mx::array(255.0f)), mx::uint8);
}

mx::array grid(const mx::array& pixels, int rows) {
  if (pixels.ndim() != 4 || pixels.size() == 0 || pixels.dtype() != mx::uint8)
    throw Error("grid: expected pixels uint8 [N, H, W, C], found [{}]",
                fmt::join(pixels.shape(), ", "));
  const int n = pixels.shape(0);
  const int columns = grid_columns(n, rows);
  auto x = mx::pad(pixels, {{0, rows * columns - n}, {kFrame, kFrame}, {kFrame, kFrame}, {0, 0}});
  const int h = x.shape(1), w = x.shape(2), c = x.shape(3);
  x = mx::transpose(mx::reshape(x, {rows, columns, h, w, c}), {0, 2, 1, 3, 4});
  return mx::reshape(x, {rows * h, columns * w, c});
}

std::pair<int64_t, int64_t> grid_size(int count, int height, int width, int rows) {
  const int64_t columns = grid_columns(count, rows);
  return {int64_t{rows} * (height + 2 * kFrame), columns * (width + 2 * kFrame)};
}

void write_png(const std::filesystem::path& file, const mx::array& pixels, const PngText& text) {
  if (pixels.ndim() != 3 || pixels.shape(2) != 3 || pixels.dtype() != mx::uint8 ||
      pixels.size() == 0)
    throw Error("{}: expected pixels uint8 [H, W, 3], found [{}]", file.string(),
                fmt::join(pixels.shape(), ", "));
  auto dense = mx::contiguous(pixels);
  dense.eval();
  media::write_png(file, {dense.data<uint8_t>(), dense.size()}, dense.shape(1), dense.shape(0),
                   text);
}

void check_writable(const std::filesystem::path& file) {
  if (file.empty()) throw Error("the name of the file to write is empty");
  const AtomicFile trial(file);  // gone at the end of this
}

void check_png_size(const std::filesystem::path& file, int64_t height, int64_t width) {
  if (height > media::kMostPngEdge || width > media::kMostPngEdge)
    throw Error("{}: a PNG of {} x {} pixels cannot be written: expected at most {} a side",
                file.string(), width, height, media::kMostPngEdge);
}

}  // namespace mlxcpp::sd

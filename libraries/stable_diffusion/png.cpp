#include "stable_diffusion/png.h"

#include <string>

#include <fmt/ranges.h>

#include "core/atomic_file.h"

namespace mlxcpp::sd {

mx::array to_pixels(const mx::array& images) {
  const auto x = mx::clip(mx::astype(images, mx::float32), mx::array(0.0f), mx::array(1.0f));
  return mx::astype(mx::round(x * mx::array(255.0f)), mx::uint8);
}

mx::array grid(const mx::array& pixels, int rows) {
  if (pixels.ndim() != 4 || pixels.size() == 0 || pixels.dtype() != mx::uint8)
    throw Error("grid: expected pixels uint8 [N, H, W, C], found [{}]",
                fmt::join(pixels.shape(), ", "));
  const int n = pixels.shape(0);
  if (rows < 1 || rows > n)
    throw Error("rows: expected 1 to {}, the number of pictures; found {}", n, rows);
  const int columns = (n + rows - 1) / rows;
  constexpr int kFrame = 8;
  auto x = mx::pad(pixels, {{0, rows * columns - n}, {kFrame, kFrame}, {kFrame, kFrame}, {0, 0}});
  const int h = x.shape(1), w = x.shape(2), c = x.shape(3);
  x = mx::transpose(mx::reshape(x, {rows, columns, h, w, c}), {0, 2, 1, 3, 4});
  return mx::reshape(x, {rows * h, columns * w, c});
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
  std::error_code error;
  if (std::filesystem::is_directory(file, error))
    throw Error("{}: cannot be written: it is a folder", file.string());
  const AtomicFile trial(file);  // gone at the end of this
}

}  // namespace mlxcpp::sd

#include "stable_diffusion/png.h"

#include <png.h>

#include <cstring>
#include <string>

#include <fmt/ranges.h>

#include "core/atomic_file.h"

namespace mlxcpp::sd {
namespace {

// libpng reports faults by leaving through longjmp, which C++ objects do not survive: so it writes
// to a plain buffer, and all objects live outside write_rows.
struct Output {
  std::vector<std::byte> bytes;
  std::string fault;
};

void on_write(png_structp png, png_bytep data, size_t n) {
  auto& out = static_cast<Output*>(png_get_io_ptr(png))->bytes;
  const auto* from = reinterpret_cast<const std::byte*>(data);
  out.insert(out.end(), from, from + n);
}
void on_error(png_structp png, png_const_charp message) {
  static_cast<Output*>(png_get_error_ptr(png))->fault = message;
  png_longjmp(png, 1);
}
void on_warning(png_structp, png_const_charp) {}

bool write_rows(Output& out, png_structp png, png_infop info, std::vector<png_bytep>& rows,
                int width, std::vector<png_text>& text) {
  if (setjmp(png_jmpbuf(png))) return false;
  png_set_write_fn(png, &out, on_write, nullptr);
  png_set_IHDR(png, info, static_cast<png_uint_32>(width), static_cast<png_uint_32>(rows.size()), 8,
               PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
               PNG_FILTER_TYPE_DEFAULT);
  if (!text.empty()) png_set_text(png, info, text.data(), static_cast<int>(text.size()));
  png_set_rows(png, info, rows.data());
  png_write_png(png, info, PNG_TRANSFORM_IDENTITY, nullptr);
  return true;
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
  if (rows < 1 || rows > n)
    throw Error("rows: expected 1 to {}, the number of pictures; found {}", n, rows);
  const int columns = (n + rows - 1) / rows;
  constexpr int kFrame = 8;
  auto x = mx::pad(pixels,
                   {{0, rows * columns - n}, {kFrame, kFrame}, {kFrame, kFrame}, {0, 0}});
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
  const int width = dense.shape(1);
  std::vector<png_bytep> rows;
  for (int y = 0; y < dense.shape(0); ++y)
    rows.push_back(dense.data<uint8_t>() + static_cast<ptrdiff_t>(y) * width * 3);

  std::vector<png_text> entries;
  auto copy = text;  // libpng wants pointers that it could write to
  for (auto& [key, value] : copy) {
    png_text t;
    std::memset(&t, 0, sizeof t);
    t.compression = PNG_ITXT_COMPRESSION_NONE;
    t.key = key.data();
    t.text = value.data();
    t.itxt_length = value.size();
    entries.push_back(t);
  }
  Output out;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &out, on_error, on_warning);
  png_infop info = png ? png_create_info_struct(png) : nullptr;
  const bool good = info && write_rows(out, png, info, rows, width, entries);
  png_destroy_write_struct(&png, &info);
  if (!good) throw Error("{}: no PNG could be made: {}", file.string(), out.fault);

  AtomicFile to(file);
  to.write(out.bytes);
  to.commit();
}

void check_writable(const std::filesystem::path& file) {
  if (file.empty()) throw Error("the name of the file to write is empty");
  std::error_code error;
  if (std::filesystem::is_directory(file, error))
    throw Error("{}: cannot be written: it is a folder", file.string());
  const AtomicFile trial(file);  // gone at the end of this
}

}  // namespace mlxcpp::sd

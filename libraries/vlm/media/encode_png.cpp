#include "vlm/media/encode_png.h"

#include <png.h>

#include <cstring>

#include "core/atomic_file.h"

namespace mlxcpp::media {
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
  png_set_user_limits(png, kMostPngEdge, kMostPngEdge);
  png_set_IHDR(png, info, static_cast<png_uint_32>(width), static_cast<png_uint_32>(rows.size()), 8,
               PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
               PNG_FILTER_TYPE_DEFAULT);
  if (!text.empty()) png_set_text(png, info, text.data(), static_cast<int>(text.size()));
  png_set_rows(png, info, rows.data());
  png_write_png(png, info, PNG_TRANSFORM_IDENTITY, nullptr);
  return true;
}

}  // namespace

void write_png(const std::filesystem::path& file, std::span<const uint8_t> rgb, int width,
               int height, const PngText& text) {
  if (width < 1 || height < 1 ||
      rgb.size() != size_t{3} * static_cast<size_t>(width) * static_cast<size_t>(height))
    throw Error("{}: expected {} x {} pixels of 3 bytes, found {} bytes", file.string(), width,
                height, rgb.size());
  std::vector<png_bytep> rows;
  for (int y = 0; y < height; ++y)
    rows.push_back(const_cast<png_bytep>(rgb.data()) + static_cast<ptrdiff_t>(y) * width * 3);

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

}  // namespace mlxcpp::media

// PNG by libpng.
#include <csetjmp>
#include <cstdio>
#include <cstring>

#include <png.h>

#include "vlm/media/decoders.h"

namespace mlxcpp::media::detail {
namespace {

// libpng leaves through longjmp: nothing with a destructor may be made between it and the setjmp.
struct Context {
  png_structp png = nullptr;
  png_infop info = nullptr;
  const uint8_t* at = nullptr;
  size_t left = 0;
  char message[200] = {};
  bool wide_grey = false;  // 16 bits a sample are kept

  ~Context() { png_destroy_read_struct(&png, &info, nullptr); }
};

void on_error(png_structp png, png_const_charp text) {
  auto& c = *static_cast<Context*>(png_get_error_ptr(png));
  std::snprintf(c.message, sizeof c.message, "%s", text);
  png_longjmp(png, 1);
}

void on_read(png_structp png, png_bytep to, size_t n) {
  auto& c = *static_cast<Context*>(png_get_io_ptr(png));
  if (n > c.left) png_error(png, "it ends too early");
  std::memcpy(to, c.at, n);
  c.at += n;
  c.left -= n;
}

bool read_header(Context& c) {
  if (setjmp(png_jmpbuf(c.png))) return false;
  png_set_read_fn(c.png, &c, on_read);
  png_set_user_limits(c.png, 1 << 24, 1 << 24);
  png_set_chunk_cache_max(c.png, 64);
  png_set_chunk_malloc_max(c.png, 1 << 24);
  png_read_info(c.png, c.info);
  return true;
}

bool read_pixels(Context& c, png_bytepp rows) {
  if (setjmp(png_jmpbuf(c.png))) return false;
  const int colour = png_get_color_type(c.png, c.info);
  const int depth = png_get_bit_depth(c.png, c.info);
  if (colour == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(c.png);
  if (colour == PNG_COLOR_TYPE_GRAY && depth < 8) png_set_expand_gray_1_2_4_to_8(c.png);
  if (depth == 16 && !c.wide_grey) png_set_strip_16(c.png);
  png_set_strip_alpha(c.png);
  if (!(colour & PNG_COLOR_MASK_COLOR) && !c.wide_grey) png_set_gray_to_rgb(c.png);
  png_set_interlace_handling(c.png);
  png_read_update_info(c.png, c.info);
  png_read_image(c.png, rows);
  return true;
}

}  // namespace

Decoded decode_png(const Input& in) {
  Context c;
  c.at = in.data();
  c.left = in.bytes.size();
  c.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &c, on_error, [](auto, auto) {});
  if (c.png) c.info = png_create_info_struct(c.png);
  if (!c.info) throw Error("{}: libpng cannot be started", in.where);
  if (!read_header(c)) throw in.broken("PNG", c.message);

  Decoded out;
  const size_t width = png_get_image_width(c.png, c.info);
  const size_t height = png_get_image_height(c.png, c.info);
  out.picture = in.allocate(width, height);
  c.wide_grey = png_get_color_type(c.png, c.info) == PNG_COLOR_TYPE_GRAY &&
                png_get_bit_depth(c.png, c.info) == 16;
  std::vector<png_bytep> rows;
  for (size_t y = 0; y < height; ++y) rows.push_back(out.picture.row(static_cast<int>(y)));
  if (!read_pixels(c, rows.data())) throw in.broken("PNG", c.message);
  if (c.wide_grey) {  // two bytes a pixel, high byte first, within the row's three a pixel
    std::vector<uint8_t> grey(width);
    for (png_bytep row : rows) {
      for (size_t x = 0; x < width; ++x) grey[x] = clip_16(row[2 * x] << 8 | row[2 * x + 1]);
      grey_to_rgb(grey.data(), row, width);
    }
  }

  png_bytep exif = nullptr;
  png_uint_32 size = 0;
  if (png_get_eXIf_1(c.png, c.info, &size, &exif))
    out.orientation = exif_orientation(std::as_bytes(std::span(exif, size)));
  png_charp name = nullptr;
  int compression = 0;
  if (in.options.icc && png_get_iCCP(c.png, c.info, &name, &compression, &exif, &size)) {
    const auto* p = reinterpret_cast<const std::byte*>(exif);
    out.icc.assign(p, p + size);
  }
  return out;
}

}  // namespace mlxcpp::media::detail

// JPEG by libjpeg-turbo, with its defaults, which are Pillow's: accurate integer DCT, fancy
// upsampling.
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <jpeglib.h>

#include "vlm/media/decoders.h"

namespace mlxcpp::media::detail {
namespace {

// libjpeg leaves through longjmp: between the setjmp and the library nothing may need a destructor.
struct Context {
  jpeg_decompress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg_progress_mgr progress{};
  std::jmp_buf escape{};
  char message[JMSG_LENGTH_MAX] = {};
};

Context& context(j_common_ptr jpeg) { return *static_cast<Context*>(jpeg->client_data); }

void on_error(j_common_ptr jpeg) {
  jpeg->err->format_message(jpeg, context(jpeg).message);
  std::longjmp(context(jpeg).escape, 1);
}

[[noreturn]] void give_up(j_common_ptr jpeg, const char* text) {
  std::snprintf(context(jpeg).message, JMSG_LENGTH_MAX, "%s", text);
  std::longjmp(context(jpeg).escape, 1);
}

boolean on_empty(j_decompress_ptr jpeg) {
  give_up(reinterpret_cast<j_common_ptr>(jpeg), "it ends too early");
}

// A progressive picture may name any number of passes over itself.
void on_progress(j_common_ptr jpeg) {
  constexpr int kMaxScans = 256;
  if (reinterpret_cast<j_decompress_ptr>(jpeg)->input_scan_number > kMaxScans)
    give_up(jpeg, "too many scans");
}

void skip(j_decompress_ptr jpeg, long n) {
  if (n <= 0) return;
  if (static_cast<size_t>(n) > jpeg->src->bytes_in_buffer) on_empty(jpeg);
  jpeg->src->next_input_byte += n;
  jpeg->src->bytes_in_buffer -= static_cast<size_t>(n);
}

// Adobe's CMYK is stored inverted. As Pillow's convert: (255 - c)(255 - k) / 255, rounded.
void cmyk_to_rgb(const uint8_t* cmyk, uint8_t* rgb, size_t n, bool inverted) {
  for (size_t i = 0; i < n; ++i, cmyk += 4, rgb += 3) {
    const int white = inverted ? cmyk[3] : 255 - cmyk[3];
    for (int c = 0; c < 3; ++c) {
      const int ink = inverted ? 255 - cmyk[c] : cmyk[c];
      const int product = ink * white + 128;
      rgb[c] = static_cast<uint8_t>(white - (((product >> 8) + product) >> 8));
    }
  }
}

// Everything up to the pixels. False after an error.
bool read_header(Context& c, const Input& in, jpeg_source_mgr& source) {
  if (setjmp(c.escape)) return false;
  jpeg_create_decompress(&c.jpeg);
  c.jpeg.client_data = &c;
  c.progress.progress_monitor = on_progress;
  c.jpeg.progress = &c.progress;
  c.jpeg.src = &source;
  constexpr int kApp1 = JPEG_APP0 + 1, kApp2 = JPEG_APP0 + 2;
  jpeg_save_markers(&c.jpeg, kApp1, 0xffff);
  if (in.options.icc) jpeg_save_markers(&c.jpeg, kApp2, 0xffff);
  jpeg_read_header(&c.jpeg, TRUE);
  if (c.jpeg.jpeg_color_space == JCS_CMYK || c.jpeg.jpeg_color_space == JCS_YCCK)
    c.jpeg.out_color_space = JCS_CMYK;
  else
    c.jpeg.out_color_space = JCS_RGB;  // grey included
  return true;
}

bool read_pixels(Context& c, Picture& picture, std::vector<uint8_t>& row) {
  if (setjmp(c.escape)) return false;
  jpeg_start_decompress(&c.jpeg);
  const bool cmyk = c.jpeg.out_color_space == JCS_CMYK;
  while (c.jpeg.output_scanline < c.jpeg.output_height) {
    uint8_t* to = picture.row(static_cast<int>(c.jpeg.output_scanline));
    JSAMPROW target = cmyk ? row.data() : to;
    if (jpeg_read_scanlines(&c.jpeg, &target, 1) != 1) on_empty(&c.jpeg);
    if (cmyk) cmyk_to_rgb(row.data(), to, c.jpeg.output_width, c.jpeg.saw_Adobe_marker);
  }
  jpeg_finish_decompress(&c.jpeg);
  return true;
}

}  // namespace

Decoded decode_jpeg(const Input& in) {
  Context c;
  c.jpeg.err = jpeg_std_error(&c.errors);
  c.errors.error_exit = on_error;
  c.errors.output_message = [](j_common_ptr) {};  // warnings
  c.jpeg.client_data = &c;
  jpeg_source_mgr source{};
  source.next_input_byte = in.data();
  source.bytes_in_buffer = in.bytes.size();
  source.init_source = [](j_decompress_ptr) {};
  source.fill_input_buffer = on_empty;
  source.skip_input_data = skip;
  source.resync_to_restart = jpeg_resync_to_restart;
  source.term_source = [](j_decompress_ptr) {};

  struct Guard {
    jpeg_decompress_struct* jpeg;
    ~Guard() { jpeg_destroy_decompress(jpeg); }
  } const guard{&c.jpeg};
  Decoded out;
  if (!read_header(c, in, source)) throw in.broken("JPEG", c.message);
  out.picture = in.allocate(c.jpeg.image_width, c.jpeg.image_height);
  for (auto* m = c.jpeg.marker_list; m; m = m->next)
    if (m->marker == JPEG_APP0 + 1 && m->data_length > 6 && std::memcmp(m->data, "Exif\0", 6) == 0)
      out.orientation = exif_orientation(std::as_bytes(std::span(m->data + 6, m->data_length - 6)));
  if (in.options.icc) {
    JOCTET* icc = nullptr;
    unsigned size = 0;
    if (jpeg_read_icc_profile(&c.jpeg, &icc, &size)) {
      const auto* p = reinterpret_cast<const std::byte*>(icc);
      out.icc.assign(p, p + size);
      std::free(icc);
    }
  }
  std::vector<uint8_t> row(size_t{4} * c.jpeg.image_width);
  if (!read_pixels(c, out.picture, row)) throw in.broken("JPEG", c.message);
  return out;
}

}  // namespace mlxcpp::media::detail

// TIFF by libtiff: the first picture of the file.
#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>

#include <tiffio.h>

#include "vlm/media/decoders.h"

namespace mlxcpp::media::detail {
namespace {

struct Reader {
  const uint8_t* data;
  uint64_t size, at = 0;
  char message[200] = {};
};

Reader& reader(thandle_t handle) { return *static_cast<Reader*>(handle); }

tmsize_t on_read(thandle_t handle, void* to, tmsize_t n) {
  Reader& r = reader(handle);
  if (n <= 0 || r.at >= r.size) return 0;
  const uint64_t m = std::min<uint64_t>(r.size - r.at, static_cast<uint64_t>(n));
  std::memcpy(to, r.data + r.at, m);
  r.at += m;
  return static_cast<tmsize_t>(m);
}

toff_t on_seek(thandle_t handle, toff_t offset, int whence) {
  Reader& r = reader(handle);
  r.at = whence == SEEK_SET ? offset : whence == SEEK_CUR ? r.at + offset : r.size + offset;
  return r.at;
}

int on_error(TIFF*, void* data, const char*, const char* format, va_list arguments) {
  Reader& r = *static_cast<Reader*>(data);
  std::vsnprintf(r.message, sizeof r.message, format, arguments);
  return 1;
}

struct Layout {
  uint32_t width = 0, height = 0;
  uint16_t bits = 1, samples = 1, photometric = 0, planar = PLANARCONFIG_CONTIG;
  uint16_t format = SAMPLEFORMAT_UINT, compression = COMPRESSION_NONE, orientation = 1;
};

Layout layout_of(TIFF* tiff) {
  Layout l;
  TIFFGetField(tiff, TIFFTAG_IMAGEWIDTH, &l.width);
  TIFFGetField(tiff, TIFFTAG_IMAGELENGTH, &l.height);
  TIFFGetFieldDefaulted(tiff, TIFFTAG_BITSPERSAMPLE, &l.bits);
  TIFFGetFieldDefaulted(tiff, TIFFTAG_SAMPLESPERPIXEL, &l.samples);
  TIFFGetField(tiff, TIFFTAG_PHOTOMETRIC, &l.photometric);
  TIFFGetFieldDefaulted(tiff, TIFFTAG_PLANARCONFIG, &l.planar);
  TIFFGetFieldDefaulted(tiff, TIFFTAG_SAMPLEFORMAT, &l.format);
  TIFFGetFieldDefaulted(tiff, TIFFTAG_COMPRESSION, &l.compression);
  TIFFGetFieldDefaulted(tiff, TIFFTAG_ORIENTATION, &l.orientation);
  return l;
}

// Grey or RGB by rows, samples side by side: read as they are, so that alpha is dropped and not
// multiplied in, and 16-bit grey clipped.
bool plain(TIFF* tiff, const Layout& l) {
  const bool grey =
      l.photometric == PHOTOMETRIC_MINISBLACK || l.photometric == PHOTOMETRIC_MINISWHITE;
  return (l.bits == 8 || l.bits == 16) && l.format == SAMPLEFORMAT_UINT &&
         l.planar == PLANARCONFIG_CONTIG && !TIFFIsTiled(tiff) &&
         ((grey && l.samples >= 1) || (l.photometric == PHOTOMETRIC_RGB && l.samples >= 3));
}

void read_plain(TIFF* tiff, const Layout& l, const Input& in, const Reader& r, Picture& out) {
  const auto size = static_cast<size_t>(std::max<tmsize_t>(TIFFScanlineSize(tiff), 0));
  const size_t sample = l.bits / 8;
  if (size < l.samples * sample * l.width) throw in.broken("TIFF", "its rows are too short");
  std::vector<uint8_t> row(size);
  const bool grey = l.photometric != PHOTOMETRIC_RGB;
  const bool invert = l.photometric == PHOTOMETRIC_MINISWHITE;
  for (uint32_t y = 0; y < l.height; ++y) {
    if (TIFFReadScanline(tiff, row.data(), y) < 0) throw in.broken("TIFF", r.message);
    uint8_t* to = out.row(static_cast<int>(y));
    for (size_t x = 0; x < l.width; ++x)
      for (size_t c = 0; c < 3; ++c) {
        const uint8_t* p = row.data() + sample * (x * l.samples + (grey ? 0 : c));
        uint16_t value = *p;
        if (sample == 2) {
          std::memcpy(&value, p, 2);
          if (grey && l.samples == 1)
            value = clip_16(value);
          else
            value >>= 8;
        }
        to[3 * x + c] = static_cast<uint8_t>(invert ? 255 - value : value);
      }
  }
}

// Whatever else libtiff knows to convert: palettes, few bits, tiles, YCbCr.
void read_converted(TIFF* tiff, const Layout& l, const Input& in, const Reader& r, Picture& out) {
  char why[1024] = "";
  if (!TIFFRGBAImageOK(tiff, why)) throw in.broken("TIFF", why);
  std::vector<uint32_t> raster(size_t{l.width} * l.height);
  if (!TIFFReadRGBAImageOriented(tiff, l.width, l.height, raster.data(), l.orientation, 1))
    throw in.broken("TIFF", r.message);
  for (size_t i = 0; i < raster.size(); ++i) {
    out.rgb[3 * i] = static_cast<uint8_t>(TIFFGetR(raster[i]));
    out.rgb[3 * i + 1] = static_cast<uint8_t>(TIFFGetG(raster[i]));
    out.rgb[3 * i + 2] = static_cast<uint8_t>(TIFFGetB(raster[i]));
  }
}

}  // namespace

Decoded decode_tiff(const Input& in) {
  Reader r{in.data(), in.bytes.size()};
  const std::unique_ptr<TIFFOpenOptions, void (*)(TIFFOpenOptions*)> options(TIFFOpenOptionsAlloc(),
                                                                             TIFFOpenOptionsFree);
  constexpr size_t kDirectories = size_t{1} << 20, kMostPixels = size_t{1} << 30;
  TIFFOpenOptionsSetMaxSingleMemAlloc(
      options.get(), static_cast<tmsize_t>(std::max(
                         kDirectories, std::min(in.options.max_pixels, kMostPixels) * 16)));
  TIFFOpenOptionsSetErrorHandlerExtR(options.get(), on_error, &r);
  TIFFOpenOptionsSetWarningHandlerExtR(
      options.get(), [](TIFF*, void*, const char*, const char*, va_list) { return 1; }, nullptr);
  const std::unique_ptr<TIFF, void (*)(TIFF*)> tiff(
      TIFFClientOpenExt(
          "picture", "rm", &r, on_read, [](thandle_t, void*, tmsize_t) { return tmsize_t{0}; },
          on_seek, [](thandle_t) { return 0; }, [](thandle_t h) { return toff_t{reader(h).size}; },
          nullptr, nullptr, options.get()),
      TIFFClose);
  if (!tiff) throw in.broken("TIFF", r.message);
  const Layout l = layout_of(tiff.get());
  Decoded out;
  out.picture = in.allocate(l.width, l.height);
  out.orientation = l.orientation;
  if (plain(tiff.get(), l))
    read_plain(tiff.get(), l, in, r, out.picture);
  else if (l.bits <= 8)
    read_converted(tiff.get(), l, in, r, out.picture);
  else
    throw Error(
        "{}: TIFF with {} bits a sample in this arrangement is not supported: expected grey "
        "or RGB by rows, or 8 bits; convert it to PNG",
        in.where, l.bits);
  uint32_t size = 0;
  void* icc = nullptr;
  if (in.options.icc && TIFFGetField(tiff.get(), TIFFTAG_ICCPROFILE, &size, &icc) == 1) {
    const auto* p = static_cast<const std::byte*>(icc);
    out.icc.assign(p, p + size);
  }
  return out;
}

}  // namespace mlxcpp::media::detail

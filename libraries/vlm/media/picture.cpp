#include "vlm/media/picture.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "core/mapped_file.h"
#include "vlm/media/decoders.h"

namespace mlxcpp::media {
namespace detail {

Picture Input::allocate(uint64_t width, uint64_t height) const {
  constexpr uint64_t kMaxSide = 1 << 24;
  if (width == 0 || height == 0)
    throw Error("{}: expected a picture, found one of {} x {} pixels", where, width, height);
  if (width > kMaxSide || height > kMaxSide || width * height > options.max_pixels)
    throw Error("{}: {} x {} pixels are more than the limit of {}; shrink the picture first", where,
                width, height, options.max_pixels);
  return new_picture(static_cast<int>(width), static_cast<int>(height));
}

Error Input::broken(std::string_view format, std::string_view what) const {
  return Error("{}: expected a whole {} picture, found a broken one: {}", where, format, what);
}

int exif_orientation(Bytes exif) {
  const auto* p = reinterpret_cast<const uint8_t*>(exif.data());
  const size_t size = exif.size();
  if (size < 8) return 1;
  const bool big = p[0] == 'M';
  if (std::memcmp(p, big ? "MM\0*" : "II*\0", 4) != 0) return 1;
  const auto u16 = [&](size_t i) -> uint32_t {
    return big ? p[i] << 8 | p[i + 1] : p[i + 1] << 8 | p[i];
  };
  const auto u32 = [&](size_t i) -> uint64_t {
    return big ? uint64_t{u16(i)} << 16 | u16(i + 2) : uint64_t{u16(i + 2)} << 16 | u16(i);
  };
  const uint64_t directory = u32(4);
  if (directory + 2 > size) return 1;
  const uint32_t entries = u16(directory);
  for (uint32_t e = 0; e < entries; ++e) {
    const uint64_t at = directory + 2 + uint64_t{12} * e;
    if (at + 12 > size) break;
    constexpr uint32_t kOrientation = 0x0112, kShort = 3;
    if (u16(at) == kOrientation && u16(at + 2) == kShort) return static_cast<int>(u16(at + 8));
  }
  return 1;
}

Picture upright(Picture in, int orientation) {
  if (orientation < 2 || orientation > 8) return in;
  const bool swap = orientation >= 5;
  const int w = in.width, h = in.height;
  Picture out = swap ? new_picture(h, w) : new_picture(w, h);
  // The source pixel of (x, y) of the result.
  const bool mirror_x =
      orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool mirror_y =
      orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  for (int y = 0; y < out.height; ++y)
    for (int x = 0; x < out.width; ++x) {
      int sx = swap ? y : x, sy = swap ? x : y;
      if (mirror_x) sx = w - 1 - sx;
      if (mirror_y) sy = h - 1 - sy;
      std::memcpy(out.row(y) + size_t{3} * x, in.row(sy) + size_t{3} * sx, 3);
    }
  return out;
}

}  // namespace detail

namespace {

bool starts_with(std::span<const std::byte> bytes, std::string_view magic, size_t at = 0) {
  return bytes.size() >= at + magic.size() &&
         std::memcmp(bytes.data() + at, magic.data(), magic.size()) == 0;
}

using Decoder = detail::Decoded (*)(const detail::Input&);

Decoder decoder_for(std::span<const std::byte> b) {
  using namespace std::string_view_literals;
  if (starts_with(b, "\xff\xd8\xff")) return detail::decode_jpeg;
  if (starts_with(b, "\x89PNG\r\n\x1a\n")) return detail::decode_png;
  if (starts_with(b, "RIFF") && starts_with(b, "WEBP", 8)) return detail::decode_webp;
  if (starts_with(b, "GIF87a") || starts_with(b, "GIF89a")) return detail::decode_gif;
  if (starts_with(b, "II*\0"sv) || starts_with(b, "MM\0*"sv)) return detail::decode_tiff;
  return nullptr;
}

}  // namespace

Picture new_picture(int width, int height) {
  if (width <= 0 || height <= 0)
    throw Error("a picture of {} x {} pixels cannot be: both sides must be positive", width,
                height);
  return {width, height, std::vector<uint8_t>(size_t{3} * width * height)};
}

Picture decode_picture(std::span<const std::byte> bytes, std::string_view where,
                       const PictureOptions& options) {
  const Decoder decode = decoder_for(bytes);
  if (!decode)
    throw Error("{}: expected a picture (JPEG, PNG, WebP, GIF or TIFF), found {}", where,
                bytes.empty() ? "nothing" : "something else");
  detail::Decoded d = decode({bytes, where, options});
  if (options.icc && !d.icc.empty()) detail::apply_icc(d.picture, d.icc);
  return detail::upright(std::move(d.picture), d.orientation);
}

Picture read_picture(const std::filesystem::path& file, const PictureOptions& options) {
  if (file != "-") return decode_picture(MappedFile::open(file)->bytes(), file.string(), options);
  constexpr size_t kLimit = size_t{1} << 30;
  return decode_picture(read_bytes(file, kLimit), "standard input", options);
}

std::vector<std::byte> read_bytes(const std::filesystem::path& file, size_t limit) {
  const bool standard = file == "-";
  const std::string name = standard ? "standard input" : file.string();
  const std::unique_ptr<FILE, int (*)(FILE*)> opened(
      standard ? nullptr : std::fopen(file.c_str(), "rb"), std::fclose);
  FILE* in = standard ? stdin : opened.get();
  if (!in) throw Error("{}: cannot be opened: {}", name, std::strerror(errno));
  std::vector<std::byte> bytes;
  constexpr size_t kStep = 1 << 16;
  for (size_t n = kStep; n == kStep;) {
    const size_t have = bytes.size();
    if (have > limit) throw Error("{}: more than the limit of {} bytes", name, limit);
    bytes.resize(have + kStep);
    n = std::fread(bytes.data() + have, 1, kStep, in);
    bytes.resize(have + n);
  }
  if (std::ferror(in)) throw Error("{}: cannot be read: {}", name, std::strerror(errno));
  return bytes;
}

}  // namespace mlxcpp::media

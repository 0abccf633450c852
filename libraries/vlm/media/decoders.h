#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "vlm/media/picture.h"

// What the decoders of the single formats share; picture.cpp picks one.
namespace mlxcpp::media::detail {

using Bytes = std::span<const std::byte>;

struct Decoded {
  Picture picture;
  int orientation = 1;  // EXIF's: 1 is upright
  std::vector<std::byte> icc;
};

struct Input {
  Bytes bytes;
  std::string_view where;
  const PictureOptions& options;

  const uint8_t* data() const { return reinterpret_cast<const uint8_t*>(bytes.data()); }
  // A picture of a declared size, once that is found acceptable.
  Picture allocate(uint64_t width, uint64_t height) const;
  Error broken(std::string_view format, std::string_view what) const;
};

Decoded decode_jpeg(const Input& in);
Decoded decode_png(const Input& in);
Decoded decode_webp(const Input& in);
Decoded decode_gif(const Input& in);
Decoded decode_tiff(const Input& in);

// The orientation that an EXIF block (a TIFF header and its first directory) tells; 1 if none.
int exif_orientation(Bytes exif);
// Turns and mirrors, so that orientation 1..8 becomes upright; others leave it as it is.
Picture upright(Picture picture, int orientation);
// From the profile to sRGB, perceptual intent. A profile that is not one of RGB is ignored.
void apply_icc(Picture& picture, Bytes profile);

// One row of grey to RGB.
inline void grey_to_rgb(const uint8_t* grey, uint8_t* rgb, size_t n) {
  for (size_t i = 0; i < n; ++i) rgb[3 * i] = rgb[3 * i + 1] = rgb[3 * i + 2] = grey[i];
}
// 16-bit grey as Pillow's convert does it: clipped, not scaled.
inline uint8_t clip_16(unsigned value) { return static_cast<uint8_t>(value < 255 ? value : 255); }

}  // namespace mlxcpp::media::detail

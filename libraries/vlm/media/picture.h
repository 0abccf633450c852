#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

namespace mlxcpp::media {

// A picture in memory: 8-bit RGB, [height, width, 3].
struct Picture {
  int width = 0, height = 0;
  std::vector<uint8_t> rgb;

  const uint8_t* row(int y) const { return rgb.data() + size_t{3} * width * y; }
  uint8_t* row(int y) { return rgb.data() + size_t{3} * width * y; }
};

// A picture of that size, black. Error if a side is not positive.
Picture new_picture(int width, int height);

struct PictureOptions {
  // Larger pictures are refused before they are decoded. Pillow's own limit.
  size_t max_pixels = 178'956'970;
  // Convert from the file's ICC profile to sRGB. The models' own pipelines ignore profiles.
  bool icc = false;
};

// JPEG, PNG, WebP, GIF or TIFF (told by content, not by name) as Pillow reads it with
// ImageOps.exif_transpose and convert("RGB"): turned as EXIF says, alpha dropped, palettes
// expanded, grey repeated, 16-bit grey clipped to 255, other 16-bit samples cut to their upper
// half; of an animation the first frame. Error, which `where` starts, if it is none of these, or
// broken, cut short, or too large.
Picture decode_picture(std::span<const std::byte> bytes, std::string_view where,
                       const PictureOptions& options = {});

// The same from a file; "-" is standard input.
Picture read_picture(const std::filesystem::path& file, const PictureOptions& options = {});

// A file's bytes, at most `limit`; "-" is standard input. Error names the file.
std::vector<std::byte> read_bytes(const std::filesystem::path& file, size_t limit);

}  // namespace mlxcpp::media

#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <mlx/mlx.h>

#include "core/json.h"
#include "vlm/media/resize.h"

// From a picture to the numbers that a vision tower takes: the image processors of transformers
// (models/*/image_processing_*.py) with their default backend, torchvision. Each reads its
// preprocessor_config.json; what would change the pixels and is not known is an Error.
namespace mlxcpp::media {

namespace mx = mlx::core;

// What every processor has: the filter, and how samples of 0..255 become floats,
// (x - mean / factor) / (std / factor).
struct PixelConfig {
  bool do_resize = true, do_rescale = true, do_normalize = true;
  Filter resample = Filter::bicubic;
  float rescale_factor = 1.0f / 255;
  std::vector<float> image_mean = {0.5f, 0.5f, 0.5f}, image_std = {0.5f, 0.5f, 0.5f};

  void fields(ConfigReader& v);

  // The float of each of the 256 samples, for each channel.
  using Table = std::array<std::array<float, 256>, 3>;
  Table table() const;
};

// f32 [pictures, 3, height, width]; all of one size.
mx::array to_floats(std::span<const Picture> pictures, const PixelConfig& config);

// A picture, or the frames of a film, as its tower takes them.
struct Pixels {
  mx::array values;
  int crops = 0;                 // SquareProcessor: pictures after the first
  int rows = 0, cols = 0;        // TileProcessor: of tiles; 0: one picture
  std::array<int, 3> grid = {};  // PatchProcessor: patches in time, height, width
};

// Square pictures (SigLIP; PaliGemma, Gemma 3, Gemma 3n), with Gemma 3's pan and scan: a long
// picture is followed by two or more crops of it.
struct SquareProcessor : PixelConfig {
  int height = 224, width = 224;
  bool do_pan_and_scan = false;
  int pan_and_scan_min_crop_size = 256, pan_and_scan_max_num_crops = 4;
  double pan_and_scan_min_ratio_to_activate = 1.2;

  void fields(ConfigReader& v);
  Pixels operator()(const Picture& picture) const;  // [1 + crops, 3, height, width]
};

// Tiles of one size, row by row, and last the whole picture (Idefics3, SmolVLM).
struct TileProcessor : PixelConfig {
  int longest_edge = 4 * 364;  // of the picture before it is cut
  int tile = 364;              // max_image_size
  bool do_image_splitting = true;

  TileProcessor() { resample = Filter::lanczos; }
  void fields(ConfigReader& v);
  Pixels operator()(const Picture& picture) const;  // [rows * cols + 1, 3, tile, tile]
  Picture whole(const Picture& frame) const;        // of a film: tile x tile
  // Frames of a film, whole: [frames, 3, tile, tile].
  Pixels film(std::span<const Picture> frames) const;
};

// Patches in the order in which merge_size x merge_size of them become one token (Qwen2-VL and its
// successors).
struct PatchProcessor : PixelConfig {
  int patch_size = 14, merge_size = 2, temporal_patch_size = 2;
  int min_pixels = 56 * 56, max_pixels = 28 * 28 * 1280;

  PatchProcessor() {
    image_mean = {0.48145466f, 0.4578275f, 0.40821073f};
    image_std = {0.26862954f, 0.26130258f, 0.27577711f};
  }
  void fields(ConfigReader& v);
  // Frames of one size, at least one; the last is repeated to fill temporal_patch_size.
  // [t h w, 3 temporal_patch_size patch_size^2].
  Pixels operator()(std::span<const Picture> frames) const;
  Pixels operator()(const Picture& picture) const { return (*this)(std::span(&picture, 1)); }
};

struct Size {
  int height = 0, width = 0;
  bool operator==(const Size&) const = default;
};

// Multiples of `factor` with the picture's proportions, whose product lies between min_pixels and
// max_pixels. Error for sides in a ratio above 200.
Size smart_resize(Size size, int factor, int min_pixels, int max_pixels);
// What a TileProcessor cuts a picture into: rows and cols, 0 x 0 for a single tile.
Size tile_grid(Size size, int longest_edge, int tile);

}  // namespace mlxcpp::media

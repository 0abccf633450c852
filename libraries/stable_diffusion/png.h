#pragma once

#include <cstdint>
#include <filesystem>
#include <utility>

#include <mlx/mlx.h>

#include "vlm/media/encode_png.h"

namespace mlxcpp::sd {

namespace mx = mlx::core;

// uint8 of [0, 1], to the nearest.
mx::array to_pixels(const mx::array& images);
// Pictures uint8 [N, H, W, 3] as one, [rows * (H + 16), N / rows * (W + 16), 3], each in a black
// frame of 8 pixels, row by row (as mlx-swift-examples does). Places without a picture in the last
// row stay black.
mx::array grid(const mx::array& pixels, int rows);
// What grid() makes of `count` pictures of that size: {height, width}.
std::pair<int64_t, int64_t> grid_size(int count, int height, int width, int rows);

// PNG of uint8 [H, W, 3], as media::write_png has it.
using media::PngText;
void write_png(const std::filesystem::path& file, const mx::array& pixels,
               const PngText& text = {});

// Throws what write_png would for a folder that is not there or cannot be written to, and for
// something there that is no regular file.
void check_writable(const std::filesystem::path& file);
// And for a picture of more pixels a side than a PNG may have.
void check_png_size(const std::filesystem::path& file, int64_t height, int64_t width);

}  // namespace mlxcpp::sd

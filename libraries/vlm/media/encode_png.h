#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace mlxcpp::media {

// PNG of 8-bit RGB [height, width, 3], with text entries (keyword of 1 to 79 characters of Latin 1,
// UTF-8 text). The same bytes for the same input. The file is replaced whole or not at all. More
// than kMostPngEdge pixels a side are an Error.
inline constexpr int kMostPngEdge = 1'000'000;  // pixels a side; libpng's readers take no more
using PngText = std::vector<std::pair<std::string, std::string>>;
void write_png(const std::filesystem::path& file, std::span<const uint8_t> rgb, int width,
               int height, const PngText& text = {});

}  // namespace mlxcpp::media

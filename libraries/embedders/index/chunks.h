#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mlxcpp::embedders {

// A part of a file that has a vector of its own. Lines count from 1.
struct Chunk {
  std::string text;
  int first_line = 1, last_line = 1;
  bool operator==(const Chunk&) const = default;
};

// Cuts a text into parts of about `max_bytes`: at empty lines and before Markdown headings where it
// can, else between lines, and within a line only if that alone is longer. Parts of blanks are left
// out. Characters (UTF-8) stay whole.
std::vector<Chunk> split_text(std::string_view text, size_t max_bytes = 1000);

// Whether all of it is UTF-8, without NUL.
bool is_text(std::string_view bytes);

}  // namespace mlxcpp::embedders

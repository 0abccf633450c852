#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

namespace mlxcpp::mnist {

// An array of bytes in the IDX format (http://yann.lecun.com/exdb/mnist, "FILE FORMATS"): two zero
// bytes, the type 8 (uint8), the number of axes, each axis as a big-endian uint32, the values.
struct Idx {
  std::vector<int> shape;
  std::vector<uint8_t> values;
};

// `bytes` may be gzipped. Error, which `where` starts, for a wrong magic number, another number of
// axes than `axes`, and for content that is cut off, damaged, or longer than its header says.
Idx read_idx(std::string_view bytes, int axes, std::string_view where);
// Reads FILE or, where there is none, FILE.gz.
Idx read_idx_file(const std::filesystem::path& file, int axes);

}  // namespace mlxcpp::mnist

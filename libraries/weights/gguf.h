#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <mlx/mlx.h>

#include "core/mapped_file.h"
#include "kernels/quantized.h"
#include "weights/ternary_blocks.h"

namespace mlxcpp {

namespace mx = mlx::core;

// A tensor of a GGUF file, as it lies there.
struct GgufTensor {
  std::string name;
  std::vector<int> shape;  // outermost first, as MLX and Hugging Face write it (GGUF reversed)
  std::optional<kernels::QuantMode> quantized;  // nullopt: plain numbers of `dtype`
  std::optional<TernaryBlocks> ternary;         // or these, which no kernel takes as they lie
  mx::Dtype dtype = mx::uint8;
  size_t offset = 0, bytes = 0;  // in `file`
  std::shared_ptr<const MappedFile> file;

  // A view of the mapping. Quantised or ternary: uint8 [..., rows, row_bytes].
  mx::array array() const;
  // Of ternary blocks: the same values in MLX's 2-bit form, in memory of their own.
  kernels::QuantizedMatrix repacked() const;
  // The numbers of a plain F32 tensor; throws for another type.
  std::vector<float> floats() const;
};

// A GGUF model, version 2 or 3, one file or the parts of a split one
// (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). Everything is checked on opening;
// an Error names file, key or tensor, expected and found. Metadata are decoded when asked for, and
// texts point into the mapping. Immutable, safe from any thread.
class GgufFile {
 public:
  // One file, or all parts in order. Given one part of a split model, the others are taken from
  // beside it.
  explicit GgufFile(const std::vector<std::filesystem::path>& files);
  explicit GgufFile(const std::filesystem::path& file)
      : GgufFile(std::vector<std::filesystem::path>{file}) {}

  // Metadata of the first file. T: bool, int, int64_t, uint64_t, float, double, std::string_view
  // (valid while this object or a tensor's array lives), or a std::vector of one of these.
  // Numbers convert between widths where the value fits. nullopt: no such key. A value of another
  // type throws.
  template <class T>
  std::optional<T> find(std::string_view key) const;
  template <class T>
  T need(std::string_view key) const {
    if (auto v = find<T>(key)) return *std::move(v);
    throw missing(key);
  }
  template <class T>
  T get(std::string_view key, T otherwise) const {
    return find<T>(key).value_or(std::move(otherwise));
  }
  bool has(std::string_view key) const { return values_.find(key) != values_.end(); }
  bool is_list(std::string_view key) const;  // false without the key
  std::vector<std::string_view> keys() const;

  const std::map<std::string, GgufTensor, std::less<>>& tensors() const { return tensors_; }
  const GgufTensor* tensor(std::string_view name) const;  // null: not there

  std::string where() const { return files_.front()->path().string(); }  // for messages
  size_t bytes() const { return bytes_; }                                // of all tensors

 private:
  // A value where it lies. type and, for a list, element as in the file.
  struct Value {
    uint32_t type = 0, element = 0;
    uint64_t count = 1;
    std::span<const std::byte> bytes;
  };
  struct Part;
  void read(const std::filesystem::path& file);
  void read_metadata(Part& part);
  void read_tensors(Part& part);
  const Value* value(std::string_view key) const;
  Error missing(std::string_view key) const;
  Error wrong_type(std::string_view key, const Value& v, std::string_view expected) const;

  std::vector<std::shared_ptr<const MappedFile>> files_;
  std::map<std::string, Value, std::less<>> values_;
  std::map<std::string, GgufTensor, std::less<>> tensors_;
  size_t bytes_ = 0;
};

}  // namespace mlxcpp

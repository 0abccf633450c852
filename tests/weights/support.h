#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <string>

#include <mlx/mlx.h>

#include "support/temp_folder.h"
#include "support/throws.h"
#include "tests/support/paths.h"

namespace mlxcpp::test {

namespace mx = mlx::core;

inline std::filesystem::path golden(const std::string& name) {
  return test::golden_folder() / "weights" / name;
}

// Every element equal, NaN to NaN; as double, so that dtypes may differ.
inline void expect_same(const mx::array& got, const mx::array& want, const std::string& name) {
  ASSERT_EQ(got.shape(), want.shape()) << name;
  const auto a = mx::astype(got, mx::float64), b = mx::astype(want, mx::float64);
  EXPECT_TRUE(mx::array_equal(a, b, true).item<bool>()) << name;
}

inline bool is_view(const mx::array& a, std::span<const std::byte> of) {
  const auto* p = reinterpret_cast<const std::byte*>(a.data<uint8_t>());
  return p >= of.data() && p < of.data() + of.size();
}

// Bytes of a number as they lie in a file.
template <class T>
std::string bytes_of(T v) {
  std::string out(sizeof v, '\0');
  std::memcpy(out.data(), &v, sizeof v);
  return out;
}

// A safetensors file from the text of its header.
inline std::string safetensors_bytes(const std::string& header, size_t data) {
  return bytes_of<uint64_t>(header.size()) + header + std::string(data, '\1');
}

// Builds GGUF files, right ones and wrong ones.
class GgufBytes {
 public:
  uint32_t version = 3;
  uint64_t alignment = 32;
  std::optional<uint64_t> tensor_count, value_count;  // lies about them

  static std::string text(std::string_view s) {
    return bytes_of<uint64_t>(s.size()) + std::string(s);
  }
  GgufBytes& value(std::string_view key, uint32_t type, const std::string& bytes) {
    values_ += text(key) + bytes_of(type) + bytes;
    ++values_count_;
    return *this;
  }
  GgufBytes& u32(std::string_view key, uint32_t v) { return value(key, 4, bytes_of(v)); }
  GgufBytes& f32(std::string_view key, float v) { return value(key, 6, bytes_of(v)); }
  GgufBytes& string(std::string_view key, std::string_view v) { return value(key, 8, text(v)); }
  // A list of `count` items of a type, their bytes given.
  GgufBytes& list(std::string_view key, uint32_t type, uint64_t count, const std::string& bytes) {
    return value(key, 9, bytes_of(type) + bytes_of(count) + bytes);
  }
  // dims as GGUF writes them, innermost first. At the next free place unless `offset` is given.
  GgufBytes& tensor(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type,
                    const std::string& bytes, std::optional<uint64_t> offset = {}) {
    tensors_ += text(name) + bytes_of(static_cast<uint32_t>(dims.size()));
    for (const uint64_t d : dims) tensors_ += bytes_of(d);
    tensors_ += bytes_of(type) + bytes_of(offset.value_or(data_.size()));
    data_ += bytes;
    data_.resize((data_.size() + alignment - 1) / alignment * alignment);
    ++tensors_count_;
    return *this;
  }
  GgufBytes& f32_tensor(std::string_view name, const std::vector<uint64_t>& dims, float v = 1) {
    size_t n = 1;
    for (const uint64_t d : dims) n *= d;
    std::string bytes;
    for (size_t i = 0; i < n; ++i) bytes += bytes_of(v);
    return tensor(name, dims, 0, bytes);
  }
  std::string str() const {
    std::string out = "GGUF" + bytes_of(version) + bytes_of(tensor_count.value_or(tensors_count_)) +
                      bytes_of(value_count.value_or(values_count_)) + values_ + tensors_;
    out.resize((out.size() + alignment - 1) / alignment * alignment);
    return out + data_;
  }

 private:
  std::string values_, tensors_, data_;
  uint64_t values_count_ = 0, tensors_count_ = 0;
};

}  // namespace mlxcpp::test

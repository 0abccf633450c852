#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include <mlx/mlx.h>

#include "kernels/float_type.h"

namespace mlxcpp::kernels {

namespace mx = mlx::core;

// What the float kernels need of MLX, apart from the primitives themselves.

// The type as kernels know it; none for what they do not take.
std::optional<FloatType> float_type(mx::Dtype dtype);

// The default stream when it is the CPU's: kernels run there, all else takes plain operations.
std::optional<mx::Stream> cpu_stream();

// Room for a row that must be made contiguous first. One for each chunk of a parallel loop.
using RowBuffer = std::vector<std::byte>;

// The rows (last axis) of an evaluated array, whatever its strides; a scalar is a row of one. Keeps
// the address, not the array: for use inside a task, whose arrays MLX keeps alive.
class Rows {
 public:
  explicit Rows(const mx::array& a);

  size_t count() const { return count_; }
  size_t length() const { return length_; }

  // Elements [begin, begin + n) of row r, contiguous: in place, or copied to the buffer.
  const void* read(size_t r, size_t begin, size_t n, RowBuffer& buffer) const;
  const void* read(size_t r, RowBuffer& buffer) const { return read(r, 0, length_, buffer); }

  // The rows as a matrix, if they start at equal distances. In elements.
  struct Regular {
    const void* data;
    int64_t row_stride, step;
  };
  std::optional<Regular> regular() const;

 private:
  struct Axis {
    size_t size;
    int64_t stride;
  };
  const std::byte* data_;
  size_t item_, count_, length_;
  int64_t step_;            // between elements of a row
  std::vector<Axis> axes_;  // before the last, those that continue each other as one
};

// The start of row r (of `length` elements of `item` bytes) in a contiguous output.
inline void* row_of(void* out, size_t r, size_t length, size_t item) {
  return static_cast<std::byte*>(out) + r * length * item;
}

// How many rows make a chunk of a parallel loop, so that it is worth handing out.
inline size_t row_grain(size_t length) {
  constexpr size_t kElements = 8192;
  return length >= kElements ? 1 : kElements / (length + 1);
}

// n floats of a type as f32.
void to_f32(const void* from, FloatType type, float* to, size_t n);

// Gives `out` the memory of `in` if nobody else needs that and the layout fits, otherwise its own.
void allocate_or_take(mx::array& out, const mx::array& in);

}  // namespace mlxcpp::kernels

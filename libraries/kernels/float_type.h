#pragma once

#include <cstddef>
#include <cstdint>

namespace mlxcpp::kernels {

// The float types that kernels read and write; sums and functions are always in f32.
enum class FloatType { f32, bf16, f16 };

inline constexpr int kFloatTypes = 3;

// Their memory, for code that knows nothing of MLX.
struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

}  // namespace mlxcpp::kernels

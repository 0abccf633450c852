#pragma once

#include <cstddef>
#include <span>

#include <mlx/mlx.h>

#include "kernels/quantized.h"

namespace mlxcpp {

namespace mx = mlx::core;

// GGUF's blocks of 256 weights of -1, 0 and 1 times one f16 (ggml-common.h; the `gguf` Python
// package's quants.py): tq1_0 holds five in a byte, tq2_0 four.
enum class TernaryBlocks : uint8_t { tq1_0, tq2_0 };

inline constexpr int kTernaryBlockWeights = 256;
size_t block_bytes(TernaryBlocks kind);

// Whole rows of blocks as a matrix (or stack) of `shape` in MLX's 2-bit form, which has the same
// values. Scales and biases are f32, so that all is computed in f32, as with GGUF's other types.
kernels::QuantizedMatrix repack(TernaryBlocks kind, std::span<const std::byte> blocks,
                                mx::Shape shape);

}  // namespace mlxcpp

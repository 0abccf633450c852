#pragma once

#include <cstddef>
#include <cstdint>

// What the loops over quantised weights need to know. Neither MLX nor the standard library: these
// files are compiled once per instruction set.

namespace mlxcpp::kernels {

// How a weight is quantised. The first four are MLX's (packed uint32 weight with scales, and biases
// for affine), as `mlx_lm.convert` writes them; the rest are GGUF's block types, bytes as they lie
// in the file.
enum class QuantMode {
  affine,
  mxfp4,
  mxfp8,
  nvfp4,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl
};

namespace quant {

enum class Number : uint8_t { f32, f16, bf16 };

// Weights that share one activation scale, and the finest division of a weight's own scales.
inline constexpr int kGroup = 32;
inline constexpr int kSubgroup = 16;

// A quantised matrix in memory, aligned to nothing. Rows of GGUF types hold their scales.
struct Matrix {
  QuantMode mode;
  int bits;
  int group_size;
  int cols;  // a multiple of kGroup
  const uint8_t* data;
  size_t row_bytes;
  // MLX types: [rows, cols / group_size]; bytes (e8m0 or e4m3) for the fp modes.
  const uint8_t* scales = nullptr;
  const uint8_t* biases = nullptr;
  Number scale_number = Number::f32;
};

// How activations are held while they are multiplied: as int8 planes with one scale per kGroup, or
// as they are. The value is the number of planes.
enum class Planes : uint8_t { real = 0, one = 1, two = 2 };

// Where the magnitude 1 of a group's largest activation lands. Two planes hold hi * 128 + lo.
inline constexpr float kOnePlaneMax = 127.0f;
inline constexpr float kTwoPlanesMax = 127.0f * 128.0f;
// A group whose largest activation is below this is taken as zero, so that no inverse overflows.
inline constexpr float kSmallestPeak = 1e-30f;

// The loops of one instruction set. Results of an output row do not depend on which others are
// computed with it.
struct Loops {
  // Bytes of one packed row of activations; a multiple of 64.
  size_t (*packed_bytes)(const Matrix& w, Planes planes);
  // Packs w.cols activations for `multiply` with the same matrix, planes and loops.
  void (*pack)(const Matrix& w, Planes planes, const void* x, Number number, uint8_t* packed);
  // Bytes that `multiply` needs as scratch, aligned to 64.
  size_t (*scratch_bytes)(const Matrix& w, Planes planes, size_t m);
  // y[i * ldy + n] for i in [0, m) and weight rows n in [begin, end).
  void (*multiply)(const Matrix& w, Planes planes, const uint8_t* packed, size_t m, size_t begin,
                   size_t end, float* y, size_t ldy, uint8_t* scratch);
  // n floats, rounded to nearest even.
  void (*convert)(const float* x, size_t n, Number number, void* out);
};

const Loops& generic_loops();
#if defined(__x86_64__)
const Loops& avx2_loops();
const Loops& avx512_loops();
#endif

// Row n of w as floats. `arithmetic` is the type in which scale, product and sum are rounded.
void dequantize_row(const Matrix& w, size_t n, Number arithmetic, float* out);

}  // namespace quant
}  // namespace mlxcpp::kernels

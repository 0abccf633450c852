#pragma once

#include <cstddef>
#include <cstdint>

namespace mlxcpp::kernels {

// Loops of picture resizing, which know nothing of pictures: one table for each instruction set.
// A sum is clip((2^(precision-1) + sum of weight[t] * byte[t]) >> precision) to 0..255; weights and
// sums must fit 32 bits. Where `narrow`, each weight fits 16 bits.
struct ResampleKernels {
  // out[i] from rows[t * stride + i], t < taps, i < n.
  void (*column_sums)(const uint8_t* rows, size_t stride, const int32_t* weights, int taps,
                      int precision, bool narrow, uint8_t* out, size_t n);
  // kResampleRows rows at a time, side by side: in [n][3][kResampleRows] are the first pixels that
  // count, out [3][kResampleRows] is one pixel of each row.
  void (*pixel_sums)(const uint8_t* in, const int32_t* weights, int taps, int precision,
                     bool narrow, uint8_t* out);
  // kResampleRows rows of n bytes, `stride` apart, to [n][kResampleRows], and back.
  void (*interleave)(const uint8_t* rows, size_t stride, size_t n, uint8_t* out);
  void (*separate)(const uint8_t* in, size_t n, uint8_t* rows, size_t stride);
};

inline constexpr size_t kResampleRows = 16;

extern const ResampleKernels kResampleKernelsGeneric, kResampleKernelsAvx2, kResampleKernelsAvx512;

// Those of isa().
const ResampleKernels& resample_kernels();

}  // namespace mlxcpp::kernels

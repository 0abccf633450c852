#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <mlx/mlx.h>

#include "kernels/quant_types.h"

namespace mlxcpp::kernels {

namespace mx = mlx::core;

struct QuantType {
  QuantMode mode = QuantMode::affine;
  int group_size = 64;  // weights that share a scale; for GGUF types the block length (32 or 256)
  int bits = 4;

  bool operator==(const QuantType&) const = default;
  bool is_gguf() const { return mode > QuantMode::nvfp4; }
};

// Throws an Error unless MLX or GGUF has the type (affine: bits 2,3,4,5,6,8 and groups 32, 64, 128;
// mxfp4/mxfp8 group 32; nvfp4 16).
QuantType quant_type(QuantMode mode, int group_size, int bits);
QuantType quant_type(QuantMode gguf);  // block length and bits follow
std::string_view name(QuantMode mode);
std::optional<QuantMode> quant_mode_from_name(std::string_view name);
size_t row_bytes(const QuantType& type,
                 int cols);  // bytes of one packed row; throws if cols is no multiple of the group

// A quantised matrix [rows, cols], or a stack of such [E, rows, cols] for experts.
//   MLX:   weight uint32 [..., rows, cols*bits/32], scales [..., rows, cols/group_size] (uint8 for
//          the fp modes), biases likewise (affine, of the dtype of scales: f32, f16 or bf16)
//   GGUF:  weight uint8 [..., rows, row_bytes], no scales
// The bytes may lie anywhere, aligned to nothing (a mapped file), and are never copied or repacked
// as long as they are row contiguous.
struct QuantizedMatrix {
  QuantType type;
  mx::array weight;
  std::optional<mx::array> scales;
  std::optional<mx::array> biases;

  int rows() const { return weight.shape(-2); }
  int cols() const;
};

// All operations below run on the default stream. On a CPU they are kernels of ours; elsewhere
// plain MLX ops, which read GGUF types by dequantising them on the CPU. Shapes and dtypes that do
// not fit are an Error at once. An id out of range is an Error when the result is evaluated.

// x [..., K] @ w^T -> [..., N], in x's dtype (f32, bf16 or f16), sums in f32. Differentiable with
// respect to x, and to the scales and biases of MLX types. Activations are rounded as precision()
// says; values of mxfp8 are no small integers, so with it they never are. Results do not depend on
// the number of threads.
mx::array quantized_matmul(const mx::array& x, const QuantizedMatrix& w);

// Experts: x [T, K] (T rows), experts uint32 [T]: row t times the transpose of expert experts[t] ->
// [T, N]. Only the chosen experts' bytes are read. `sorted`: the ids ascend.
mx::array gather_quantized_matmul(const mx::array& x, const QuantizedMatrix& w,
                                  const mx::array& experts, bool sorted = false);

// Rows `ids` (integers of any shape) of w [N, K], dequantised: [..., K]. Reads only those rows.
mx::array quantized_rows(const QuantizedMatrix& w, const mx::array& ids, mx::Dtype dtype);

// The whole matrix as floats. GGUF types: values equal to the `gguf` Python package's, in f32; MLX
// types: to mx::dequantize's.
mx::array dequantize(const QuantizedMatrix& w, mx::Dtype dtype);

// Quantises floats [..., rows, cols]. MLX modes only (Error otherwise).
QuantizedMatrix quantize(const mx::array& w, const QuantType& type);

}  // namespace mlxcpp::kernels

#pragma once

#include <optional>

#include <mlx/mlx.h>

#include "kernels/quantized.h"

// The CPU primitives behind quantized.h. Their arguments have been checked.

namespace mlxcpp::kernels::quant {

namespace mx = mlx::core;

mx::array matmul_op(const mx::array& x, const QuantizedMatrix& w, mx::Stream s);
mx::array gather_matmul_op(const mx::array& x, const QuantizedMatrix& w, const mx::array& experts,
                           mx::Stream s);
mx::array rows_op(const QuantizedMatrix& w, const mx::array& ids, mx::Dtype dtype, mx::Stream s);
mx::array dequantize_op(const QuantizedMatrix& w, mx::Dtype dtype, mx::Stream s);

}  // namespace mlxcpp::kernels::quant

#pragma once

#include <optional>

#include <mlx/mlx.h>

#include "kernels/precision.h"
#include "kernels/quantized.h"

// The CPU primitives behind quantized.h. Their arguments have been checked.

namespace mlxcpp::kernels::quant {

namespace mx = mlx::core;

mx::array matmul_op(const mx::array& x, const QuantizedMatrix& w, mx::Stream s);
mx::array gather_matmul_op(const mx::array& x, const QuantizedMatrix& w, const mx::array& experts,
                           mx::Stream s);
mx::array rows_op(const QuantizedMatrix& w, const mx::array& ids, mx::Dtype dtype, mx::Stream s);
mx::array dequantize_op(const QuantizedMatrix& w, mx::Dtype dtype, mx::Stream s);

// For products within other primitives.
const Loops& loops();  // of isa()
Planes planes_for(const QuantType& type, Precision p);
// A matrix, or the first of a stack, in memory. The arrays are evaluated and contiguous by rows;
// they must outlive it.
Matrix matrix_of(const QuantizedMatrix& w);
// The array itself, or a dense copy that the stream makes before what is dispatched next.
mx::array dense(const mx::array& a, mx::Stream s);
// Weight rows per chunk of a parallel loop for m rows of activations.
size_t chunk_rows(size_t rows, size_t work_per_row, size_t m);

}  // namespace mlxcpp::kernels::quant

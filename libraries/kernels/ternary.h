// Matrices of -1, 0 and 1 with one scale (BitNet b1.58, arXiv 2402.17764), as transformers packs
// them (integrations/bitnet.py): two bits a weight, the value plus one; bits 2j and 2j + 1 of
// packed[r, c] are row r + j * N/4, column c. They are multiplied as they lie in the file.
#pragma once

#include <mlx/mlx.h>

namespace mlxcpp::kernels {

namespace mx = mlx::core;

// x [..., K] times the transpose of the matrix packed uint8 [N/4, K], times scale [1]: [..., N] in
// x's dtype (f32, bf16 or f16). x is taken as precision() says (precision.h), in int8 planes with
// one scale a row. Error if shapes or dtypes do not fit. Differentiable with respect to x and the
// scale.
mx::array ternary_matmul(const mx::array& x, const mx::array& packed, const mx::array& scale);

// The matrix [N, K] without its scale.
mx::array unpack_ternary(const mx::array& packed, mx::Dtype dtype);

}  // namespace mlxcpp::kernels

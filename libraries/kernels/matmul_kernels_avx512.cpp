#include "kernels/matmul_kernels-inl.h"

namespace mlxcpp::kernels {

const MatmulKernels kMatmulKernelsAvx512 = MLXCPP_MATMUL_KERNELS;

}  // namespace mlxcpp::kernels

#include "kernels/matmul_kernels-inl.h"

namespace mlxcpp::kernels {

const MatmulKernels kMatmulKernelsGeneric = MLXCPP_MATMUL_KERNELS;

}  // namespace mlxcpp::kernels

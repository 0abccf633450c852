#include "kernels/ternary_kernels-inl.h"

namespace mlxcpp::kernels {

const TernaryKernels kTernaryKernelsAvx512 = MLXCPP_TERNARY_KERNELS;

}  // namespace mlxcpp::kernels

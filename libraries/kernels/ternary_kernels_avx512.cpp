#include "kernels/ternary_kernels-inl.h"

namespace mlxcpp::kernels {

const TernaryKernels kTernaryKernelsAvx512 = {multiply_ternary};

}  // namespace mlxcpp::kernels

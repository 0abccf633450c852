#include "kernels/ternary_kernels-inl.h"

namespace mlxcpp::kernels {

const TernaryKernels kTernaryKernelsAvx2 = {multiply_ternary};

}  // namespace mlxcpp::kernels

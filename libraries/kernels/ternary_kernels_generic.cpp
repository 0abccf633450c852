#include "kernels/ternary_kernels-inl.h"

namespace mlxcpp::kernels {

const TernaryKernels kTernaryKernelsGeneric = {multiply_ternary};

}  // namespace mlxcpp::kernels

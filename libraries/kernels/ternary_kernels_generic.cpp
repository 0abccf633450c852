#include "kernels/ternary_kernels-inl.h"

namespace mlxcpp::kernels {

const TernaryKernels kTernaryKernelsGeneric = MLXCPP_TERNARY_KERNELS;

}  // namespace mlxcpp::kernels

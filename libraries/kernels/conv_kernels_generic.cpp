#include "kernels/conv_kernels-inl.h"

namespace mlxcpp::kernels {

const ConvKernels kConvKernelsGeneric = MLXCPP_CONV_KERNELS;

}  // namespace mlxcpp::kernels

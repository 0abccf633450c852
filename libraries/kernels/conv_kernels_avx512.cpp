#include "kernels/conv_kernels-inl.h"

namespace mlxcpp::kernels {

const ConvKernels kConvKernelsAvx512 = MLXCPP_CONV_KERNELS;

}  // namespace mlxcpp::kernels

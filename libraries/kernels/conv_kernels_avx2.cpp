#include "kernels/conv_kernels-inl.h"

namespace mlxcpp::kernels {

const ConvKernels kConvKernelsAvx2 = MLXCPP_CONV_KERNELS;

}  // namespace mlxcpp::kernels

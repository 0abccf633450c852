#include "kernels/resample_kernels-inl.h"

namespace mlxcpp::kernels {

const ResampleKernels kResampleKernelsAvx512 = MLXCPP_RESAMPLE_KERNELS;

}  // namespace mlxcpp::kernels

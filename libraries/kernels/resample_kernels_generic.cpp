#include "kernels/resample_kernels-inl.h"

namespace mlxcpp::kernels {

const ResampleKernels kResampleKernelsGeneric = MLXCPP_RESAMPLE_KERNELS;

}  // namespace mlxcpp::kernels

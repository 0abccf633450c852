#include "kernels/spectrum_kernels-inl.h"

namespace mlxcpp::kernels {

const SpectrumKernels kSpectrumKernelsAvx2 = MLXCPP_SPECTRUM_KERNELS;

}  // namespace mlxcpp::kernels

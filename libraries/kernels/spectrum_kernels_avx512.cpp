#include "kernels/spectrum_kernels-inl.h"

namespace mlxcpp::kernels {

const SpectrumKernels kSpectrumKernelsAvx512 = MLXCPP_SPECTRUM_KERNELS;

}  // namespace mlxcpp::kernels

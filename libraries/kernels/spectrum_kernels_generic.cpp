#include "kernels/spectrum_kernels-inl.h"

namespace mlxcpp::kernels {

const SpectrumKernels kSpectrumKernelsGeneric = MLXCPP_SPECTRUM_KERNELS;

}  // namespace mlxcpp::kernels

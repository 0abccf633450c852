#include "kernels/spectrum_kernels.h"

#include "kernels/isa.h"

namespace mlxcpp::kernels {

const SpectrumKernels& spectrum_kernels() {
#if defined(__x86_64__)
  if (isa() >= Isa::avx512) return kSpectrumKernelsAvx512;
  if (isa() >= Isa::avx2) return kSpectrumKernelsAvx2;
#endif
  return kSpectrumKernelsGeneric;
}

}  // namespace mlxcpp::kernels

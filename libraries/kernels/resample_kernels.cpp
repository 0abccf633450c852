#include "kernels/resample_kernels.h"

#include "kernels/isa.h"

namespace mlxcpp::kernels {

const ResampleKernels& resample_kernels() {
#if defined(__x86_64__)
  if (isa() >= Isa::avx512) return kResampleKernelsAvx512;
  if (isa() >= Isa::avx2) return kResampleKernelsAvx2;
#endif
  return kResampleKernelsGeneric;
}

}  // namespace mlxcpp::kernels

#include "kernels/matmul_kernels.h"

#include "kernels/isa.h"

namespace mlxcpp::kernels {

const MatmulKernels& matmul_kernels() {
#if defined(__x86_64__)
  if (isa() >= Isa::avx512) return kMatmulKernelsAvx512;
  if (isa() >= Isa::avx2) return kMatmulKernelsAvx2;
#endif
  return kMatmulKernelsGeneric;
}

}  // namespace mlxcpp::kernels

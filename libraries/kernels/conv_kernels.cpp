#include "kernels/conv_kernels.h"

#include "kernels/isa.h"

namespace mlxcpp::kernels {

const ConvKernels& conv_kernels() {
#if defined(__x86_64__)
  if (isa() >= Isa::avx512) {
    static const ConvKernels best = [] {
      ConvKernels k = kConvKernelsAvx512;
      if (__builtin_cpu_supports("avx512bf16")) k.multiply_bf16 = conv_multiply_bf16_avx512;
      return k;
    }();
    return best;
  }
  if (isa() >= Isa::avx2) return kConvKernelsAvx2;
#endif
  return kConvKernelsGeneric;
}

}  // namespace mlxcpp::kernels

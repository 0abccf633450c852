#include "kernels/row_kernels.h"

#include "kernels/isa.h"

namespace mlxcpp::kernels {

const RowKernels& row_kernels() {
#if defined(__x86_64__)
  if (isa() >= Isa::avx512) return kRowKernelsAvx512;
  if (isa() >= Isa::avx2) return kRowKernelsAvx2;
#endif
  return kRowKernelsGeneric;
}

}  // namespace mlxcpp::kernels

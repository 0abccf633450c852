#include "kernels/row_kernels-inl.h"

namespace mlxcpp::kernels {

const RowKernels kRowKernelsAvx2 = MLXCPP_ROW_KERNELS;

}  // namespace mlxcpp::kernels

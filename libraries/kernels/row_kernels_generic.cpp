#include "kernels/row_kernels-inl.h"

namespace mlxcpp::kernels {

const RowKernels kRowKernelsGeneric = MLXCPP_ROW_KERNELS;

}  // namespace mlxcpp::kernels

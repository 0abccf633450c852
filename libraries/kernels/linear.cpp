#include "kernels/linear.h"

namespace mlxcpp::kernels {

mx::array linear(const mx::array& x, const mx::array& weight,
                 const std::optional<mx::array>& bias) {
  auto y = mx::matmul(x, mx::transpose(weight));
  return bias ? y + *bias : y;
}

}  // namespace mlxcpp::kernels

#include "kernels/rope.h"

namespace mlxcpp::kernels {

mx::array rope(const mx::array& x, int dims, bool traditional, const mx::array& inv_freq,
               float scale, const Positions& positions) {
  const auto wavelengths = mx::array(1.0f) / inv_freq;  // what fast::rope calls freqs
  const auto rotate = [&](const mx::array& part) {
    return std::visit(
        [&](const auto& offset) {
          return mx::fast::rope(part, dims, traditional, std::nullopt, 1.0f, offset, wavelengths);
        },
        positions);
  };
  if (scale == 1.0f) return rotate(x);
  const int D = x.shape(-1);
  const auto parts = mx::split(x, mx::Shape{dims}, -1);
  const auto rotated = rotate(parts[0] * mx::array(scale, x.dtype()));
  return dims == D ? rotated : mx::concatenate({rotated, parts[1]}, -1);
}

}  // namespace mlxcpp::kernels

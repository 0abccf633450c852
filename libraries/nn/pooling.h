// Pooling, channels last: x [N, L, C], [N, H, W, C] or [N, D, H, W, C]. The stride is the kernel's
// size unless given. Padding takes part in the mean as zeros, and in the maximum as -inf, as in
// mlx.nn; windows that would reach beyond are left out.
#pragma once

#include <optional>
#include <string>

#include "nn/extents.h"
#include "nn/module.h"

namespace mlxcpp::nn {

enum class Pooling { max, average };

template <int N, Pooling P>
class Pool : public Layer {
 public:
  explicit Pool(Extents<N> kernel_size, std::optional<Extents<N>> stride = {},
                Extents<N> padding = 0);

  mx::array operator()(const mx::array& x) const override;
  std::string type_name() const override;
  std::string settings() const override;

 private:
  Extents<N> kernel_size_, stride_, padding_;
};

using MaxPool1d = Pool<1, Pooling::max>;
using MaxPool2d = Pool<2, Pooling::max>;
using MaxPool3d = Pool<3, Pooling::max>;
using AvgPool1d = Pool<1, Pooling::average>;
using AvgPool2d = Pool<2, Pooling::average>;
using AvgPool3d = Pool<3, Pooling::average>;

extern template class Pool<1, Pooling::max>;
extern template class Pool<2, Pooling::max>;
extern template class Pool<3, Pooling::max>;
extern template class Pool<1, Pooling::average>;
extern template class Pool<2, Pooling::average>;
extern template class Pool<3, Pooling::average>;

}  // namespace mlxcpp::nn

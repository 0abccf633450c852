#include "nn/dropout.h"

#include <fmt/ranges.h>

namespace mlxcpp::nn {

Dropout::Dropout(float p, int spatial_axes) : p_(p), spatial_axes_(spatial_axes) {
  if (!(p >= 0.0f && p < 1.0f)) throw Error("Dropout: p must be in [0, 1), found {}", p);
}

mx::array Dropout::operator()(const mx::array& x) const {
  const int axes = static_cast<int>(x.ndim());
  if (spatial_axes_ > 0 && axes != spatial_axes_ + 1 && axes != spatial_axes_ + 2)
    throw Error("{}: expected {} or {} axes, found [{}]", type_name(), spatial_axes_ + 1,
                spatial_axes_ + 2, fmt::join(x.shape(), ", "));
  if (p_ == 0.0f || !training()) return x;
  auto shape = x.shape();
  for (int i = 0; i < spatial_axes_; ++i) shape[axes - 2 - i] = 1;
  const auto kept = mx::astype(mx::random::bernoulli(mx::array(1 - p_), shape), x.dtype());
  return x * kept * mx::array(1 / (1 - p_), x.dtype());
}

std::string Dropout::settings() const { return fmt::format("p={}", p_); }

}  // namespace mlxcpp::nn

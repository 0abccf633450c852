#pragma once

#include <cmath>

#include <mlx/mlx.h>

namespace mlxcpp::nn::detail {

namespace mx = mlx::core;

// Uniform in +-1/sqrt(fan_in), the initial values of linear and convolution weights in mlx.nn.
inline mx::array uniform_init(int fan_in, const mx::Shape& shape) {
  const float k = std::sqrt(1.0f / static_cast<float>(fan_in));
  return mx::random::uniform(mx::array(-k), mx::array(k), shape, mx::float32);
}

}  // namespace mlxcpp::nn::detail

#pragma once

#include <filesystem>

#include <mlx/mlx.h>

#include "vlm/media/picture.h"

namespace mlxcpp::mnist {

namespace mx = mlx::core;

// A picture of one digit as MNIST has them, uint8 [1, 28, 28, 1], light on dark. A picture of
// 28 x 28 stays as it is; of another, the digit is cut out, scaled to 20 pixels, and set with its
// centre of mass in the middle. Dark digits on a light ground are inverted. Error, which `where`
// starts, when there is nothing to be seen.
mx::array digit(const media::Picture& picture, std::string_view where);

}  // namespace mlxcpp::mnist

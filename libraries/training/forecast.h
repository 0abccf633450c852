#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <mlx/mlx.h>

namespace mlxcpp::training {

namespace mx = mlx::core;

// Bytes that evaluating `outputs` will have alive at most, found by walking the graph as MLX
// evaluates it: nothing is computed. What is there already (evaluated arrays) is not counted; nor
// is the working space within an operation. The outputs stay alive.
size_t peak_of_graph(const std::vector<mx::array>& outputs);

}  // namespace mlxcpp::training

#pragma once

#include <string>
#include <utility>
#include <vector>

#include <mlx/mlx.h>

namespace mlxcpp {

// A cache as a file holds it: the class name, meta_state and state of mlx-lm's caches.
struct CacheState {
  std::string kind;
  std::vector<std::string> meta;
  bool meta_is_list = false;  // false: one string, or none
  // Path inside the state ("0" keys, "1" values, "0.2" the keys' biases, ...) and array.
  std::vector<std::pair<std::string, mlx::core::array>> arrays;
  std::vector<CacheState> parts;  // of a CacheList
};

}  // namespace mlxcpp

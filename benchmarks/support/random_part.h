#pragma once

#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include <mlx/mlx.h>

namespace mlxcpp::bench {

// A module of true sizes with random weights, evaluated. They are pieces of one block of random
// numbers: drawing all of them would take longer than what is measured.
template <class Part, class Config>
std::unique_ptr<Part> random_part(const Config& config, mlx::core::Dtype dtype) {
  namespace mx = mlx::core;
  std::vector<float> block((1 << 20) + 7);
  std::minstd_rand engine(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  for (float& x : block) x = uniform(engine);
  auto part = std::make_unique<Part>(config);
  part->map_parameters([&](const std::string&, const mx::array& old) {
    const float scale =
        std::sqrt(3.0f * static_cast<float>(old.shape(0)) / static_cast<float>(old.size()));
    std::vector<float> values(old.size());
    for (size_t i = 0; i < values.size(); ++i) values[i] = scale * block[i % block.size()];
    auto made = mx::astype(mx::array(values.data(), old.shape(), mx::float32), dtype);
    made.eval();
    return made;
  });
  mx::clear_cache();
  return part;
}

}  // namespace mlxcpp::bench

// The models that go by a short name, with the defaults of mlx-swift-examples.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mlxcpp::sd {

struct Preset {
  std::string name, id;  // "base", "stabilityai/stable-diffusion-2-1-base"
  float cfg;
  int steps;
  std::string sampler;
};

const std::vector<Preset>& presets();
const Preset* find_preset(std::string_view name);  // by name or id; null: none

}  // namespace mlxcpp::sd

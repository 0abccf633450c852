#include "stable_diffusion/presets.h"

namespace mlxcpp::sd {

const std::vector<Preset>& presets() {
  static const std::vector<Preset> all = {
      {"base", "stabilityai/stable-diffusion-2-1-base", 7.5f, 50, "simple-euler"},
      {"sdxl-turbo", "stabilityai/sdxl-turbo", 0.0f, 2, "simple-euler-ancestral"},
  };
  return all;
}

const Preset* find_preset(std::string_view name) {
  for (const Preset& p : presets())
    if (p.name == name || p.id == name) return &p;
  return nullptr;
}

}  // namespace mlxcpp::sd

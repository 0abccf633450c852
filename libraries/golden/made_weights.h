#pragma once

#include <filesystem>
#include <map>
#include <string>

#include <mlx/mlx.h>

namespace mlxcpp::golden {

namespace mx = mlx::core;

// The tensors of a fixture's weights.json, whose values follow from each one's name and the seed by
// a formula (tests/golden/README.md), and those of raw.safetensors beside it. The same bits on
// every machine: this needs -ffp-contract=off.
std::map<std::string, mx::array> made_weights(const std::filesystem::path& folder);

}  // namespace mlxcpp::golden

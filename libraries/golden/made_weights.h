#pragma once

#include <filesystem>
#include <map>
#include <string>

#include <mlx/mlx.h>

namespace mlxcpp::golden {

// The tensors that folder/weights.json describes, and those of raw.safetensors beside it. Every
// value follows from the tensor's name and the seed (tests/golden/README.md, "weights.json"), bit
// for bit the same everywhere.
std::map<std::string, mlx::core::array> made_weights(const std::filesystem::path& folder);

}  // namespace mlxcpp::golden

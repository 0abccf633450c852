#pragma once

#include <filesystem>
#include <map>
#include <string>

#include <mlx/mlx.h>

namespace mlxcpp {

namespace mx = mlx::core;

// NumPy's formats: .npy (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html,
// versions 1 to 3) and .npz, a zip of them, stored or deflated. Little-endian numbers, booleans,
// complex64; two raw bytes ('V2') are bfloat16, as MLX writes it. Arrays of Python objects are
// pickles, which can run code: refused. An Error names file, array, expected and found.
mx::array read_npy(const std::filesystem::path& file);
std::map<std::string, mx::array> read_npz(const std::filesystem::path& file);

}  // namespace mlxcpp

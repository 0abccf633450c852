#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <mlx/mlx.h>

#include "core/json.h"
#include "kernels/quantized.h"

namespace mlxcpp {

namespace mx = mlx::core;

class GgufFile;

// Which layers of a checkpoint are quantised, and how. Keys are module paths
// ("model.layers.0.mlp.up_proj").
struct Quantization {
  std::optional<kernels::QuantType> everywhere;  // what a path without its own entry has
  std::map<std::string, std::optional<kernels::QuantType>>
      per_layer;  // nullopt: this one is not quantised

  std::optional<kernels::QuantType> at(const std::string& path) const;
};

// The "quantization" (or "quantization_config") of a config.json, as mlx_lm.convert writes it:
//   {"group_size": 64, "bits": 4, "mode": "affine", "PATH": {...} or false, ...}
// Other methods (gptq, awq, bitsandbytes, ...) are refused by name.
Quantization read_quantization(const Json& config, const std::string& where = "config.json");

// What a model is made from, whatever the file format. Arrays are views of the mapped files where
// the layout allows, and keep the mapping alive.
struct Checkpoint {
  Json
      config;  // as config.json has it; from a GGUF file: the same fields, mapped from its metadata
  Quantization quantization;  // from config.json's "quantization", or from the tensors' GGUF types
  std::map<std::string, mx::array> weights;  // published Hugging Face names, from GGUF too
  size_t bytes = 0;                          // of all weights
};

// A folder with config.json and safetensors, or, when `gguf` is not empty, these files (one, or all
// parts of a split model in order).
Checkpoint load_checkpoint(const std::filesystem::path& folder,
                           const std::vector<std::filesystem::path>& gguf = {});
Checkpoint load_checkpoint(const GgufFile& gguf);

// The config alone, without touching the weights.
Json load_config(const std::filesystem::path& folder,
                 const std::vector<std::filesystem::path>& gguf = {});
Json load_config(const GgufFile& gguf);

// The "quantization" object that read_quantization() reads; null when nothing is quantised. Throws
// for GGUF's types, which only GGUF files hold.
Json write_quantization(const Quantization& quantization);

// Writes a folder that load_checkpoint() and mlx_lm read: the weights (write_safetensors_folder),
// then config.json with its "quantization" set from the checkpoint. Each file is replaced whole.
void write_checkpoint(const std::filesystem::path& folder, const Checkpoint& checkpoint,
                      size_t max_shard_bytes = size_t{5} << 30);

}  // namespace mlxcpp

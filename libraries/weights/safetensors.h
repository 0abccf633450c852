#pragma once

#include <filesystem>
#include <map>
#include <string>

#include <mlx/mlx.h>

#include "core/json.h"

namespace mlxcpp {

namespace mx = mlx::core;

// The safetensors format (https://github.com/huggingface/safetensors, README "Format"): eight bytes
// of header length, a JSON header, the tensors' bytes without holes.
struct Safetensors {
  std::map<std::string, mx::array> tensors;     // views of the mapped file
  std::map<std::string, std::string> metadata;  // "__metadata__"
  size_t bytes = 0;                             // of the tensors
};

// Dtypes: F64 F32 F16 BF16 I64 I32 I16 I8 U64 U32 U16 U8 BOOL; F8_E4M3 and F8_E5M2 become bfloat16,
// which holds each of their values. Every number of the header is checked; an Error names file,
// tensor, expected and found.
Safetensors read_safetensors(const std::filesystem::path& file);

// The tensors alone.
inline std::map<std::string, mx::array> load_safetensors(const std::filesystem::path& file) {
  return read_safetensors(file).tensors;
}

// All tensors of a model folder: model.safetensors; or the shards that model.safetensors.index.json
// lists; or model*.safetensors. Metadata is the first file's. `stem` stands in the place of
// "model".
Safetensors read_safetensors_folder(const std::filesystem::path& folder,
                                    const std::string& stem = "model");

// Evaluates the tensors, one after the other, and writes them. The file is replaced whole or not at
// all; a full disk is an Error that names it.
void write_safetensors(const std::filesystem::path& file,
                       const std::map<std::string, mx::array>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

// The same for a model folder: model.safetensors, or, above `max_shard_bytes`, files
// model-00001-of-0000N.safetensors (a tensor is never split); then model.safetensors.index.json, as
// mlx_lm writes it. A model.safetensors that the shards replace is removed.
void write_safetensors_folder(const std::filesystem::path& folder,
                              const std::map<std::string, mx::array>& tensors,
                              const std::map<std::string, std::string>& metadata = {},
                              size_t max_shard_bytes = size_t{5} << 30);

}  // namespace mlxcpp

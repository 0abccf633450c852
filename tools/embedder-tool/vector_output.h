#pragma once

#include <memory>
#include <string>
#include <vector>

#include <mlx/mlx.h>

#include "embedder-tool/text_input.h"

namespace mlxcpp::tools {

// Where vectors go, some at a time. A file is there as a whole after finish(), or stays as it was.
class VectorOutput {
 public:
  virtual ~VectorOutput() = default;
  // vectors f32 [texts, dimension], evaluated.
  virtual void add(const std::vector<InputText>& texts, const mlx::core::array& vectors) = 0;
  virtual void finish() = 0;
};

// format: jsonl, npy or safetensors (the tensor "embeddings"); empty: by the file's name, JSONL
// where that says nothing. An empty file is standard output, for JSONL only.
std::unique_ptr<VectorOutput> vector_output(const std::string& file, std::string format);

// The numbers of a row as a JSON list, with as many digits as tell them apart.
std::string json_list(const float* numbers, size_t count);

}  // namespace mlxcpp::tools

#pragma once

#include <filesystem>
#include <optional>

#include "kernels/quantized.h"
#include "lm_common/model_context.h"

namespace mlxcpp {

struct WriteModelOptions {
  // Of the parameters that are not quantised; none: as they are. What was quantised then has the
  // dtype of its scales, or bfloat16 where these are none of MLX's affine type.
  std::optional<mx::Dtype> dtype = {};
  // MLX's types alone: every layer that its groups fit. What is quantised already is made float
  // first.
  std::optional<kernels::QuantType> quantize = {};
  bool dequantize = false;  // nothing stays quantised
};

// Writes a folder that load_model_context and mlx_lm read: weights as the model has them now,
// config.json, and the tokenizer's files: copies of those in `files`, or, from a GGUF file, made
// from its metadata. Blocks of GGUF's types, which safetensors cannot hold, become float; rows that
// llama.cpp's converter reordered get Hugging Face's order. The model in `context` is changed into
// what is written. Error for what has no such form. Each file is replaced whole; config.json comes
// last.
void write_model(const std::filesystem::path& folder, ModelContext& context,
                 const ModelFiles& files, const WriteModelOptions& options = {});

}  // namespace mlxcpp

#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "core/json.h"
#include "weights/gguf.h"

namespace mlxcpp {

// Where a family's GGUF tensors differ from the Hugging Face ones in more than their names.
enum GgufTrait : unsigned {
  kNothing = 0,
  // Rows of q and k were permuted for interleaved pairs by the converter. The model rotates pairs
  // instead ("rope_traditional"), so that nothing is copied.
  kPermutedRope = 1,
  // Norms carry the 1 that the family's RMSNorm adds.
  kNormPlusOne = 2,
};

// GGUF name -> Hugging Face name, both without ".weight" or ".bias"; in a block also without
// "blk.N." and "model.layers.N.".
using GgufNames = std::vector<std::pair<std::string_view, std::string_view>>;

// One family of models: general.architecture, and how its metadata and tensors are named and meant
// in config.json and safetensors. A new family is one row of the table in the .cpp.
struct GgufArchitecture {
  std::string_view name;           // general.architecture
  std::string_view model_type;     // config.json's
  std::string_view epsilon_field;  // config.json's name of the norms' epsilon
  std::string_view activation;     // hidden_act
  unsigned traits = kNothing;
  GgufNames names = {};  // where they differ from gguf_common_names()
  void (*finish)(const GgufFile& gguf, Json& config) = nullptr;  // fields of this family alone
};

// Throws an Error that lists what is known.
const GgufArchitecture& gguf_architecture(const GgufFile& gguf);

// What most families call their tensors, inside of blocks and outside.
const GgufNames& gguf_block_names();
const GgufNames& gguf_outer_names();

}  // namespace mlxcpp

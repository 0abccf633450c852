#pragma once

#include <string_view>
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
  // LayerNorm, not RMSNorm: the file has another key for its epsilon.
  kLayerNorm = 4,
  // Heads and widths differ from layer to layer: the family reads the lists.
  kLayersDiffer = 8,
};

// A tensor's name in a GGUF file and its published one, both without ".weight" or ".bias", and in a
// block without "blk.N." and the published prefix of layer N.
struct GgufName {
  std::string_view from, to;
  // GGUF drops dimensions of 1: as_row: [n] is published as [1, n]; as_filter: [n, k] as [n, 1, k].
  // whole: `to` is the published name, without ".weight" or ".bias" after it.
  enum Layout { same, as_row, as_filter, whole } layout = same;
};
using GgufNames = std::vector<GgufName>;

// One family of models: general.architecture, and how its metadata and tensors are named and meant
// in config.json and safetensors. A new family is one row of the table in the .cpp.
struct GgufArchitecture {
  std::string_view name;                             // general.architecture
  std::string_view model_type;                       // config.json's
  unsigned traits = kNothing;                        // GgufTrait, or'ed
  GgufNames names = {};                              // where they differ from the common ones
  void (*finish)(const GgufFile&, Json&) = nullptr;  // fields of this family alone
  std::string_view activation = "silu";              // hidden_act
  std::string_view epsilon_field = "rms_norm_eps";   // config.json's name of the norms' epsilon
  std::string_view layers = "model.layers.";         // published prefix of a block
};

// Throws an Error that lists what is known.
const GgufArchitecture& gguf_architecture(const GgufFile& gguf);

// What most families call their tensors, inside of blocks and outside.
const GgufNames& gguf_block_names();
const GgufNames& gguf_outer_names();

}  // namespace mlxcpp

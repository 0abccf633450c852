#pragma once

#include <optional>
#include <string>
#include <vector>

#include "adapters/lora_layers.h"
#include "core/json.h"

namespace mlxcpp::adapters {

enum class FineTuneType { lora, dora, full };
std::optional<FineTuneType> fine_tune_type_from_name(std::string_view name);
std::string_view name(FineTuneType type);

// What an adapter_config.json of mlx_lm says: "fine_tune_type", "num_layers", "lora_parameters".
struct LoraConfig {
  FineTuneType type = FineTuneType::lora;
  int num_layers = 16;  // the last so many decoder layers; 0 or -1: all
  LowRank how;
  // Paths of layers within a decoder layer ("self_attn.q_proj"), or within the model ("lm_head");
  // none: every linear and embedding layer of the decoder layers.
  std::optional<std::vector<std::string>> keys = {};

  void fields(ConfigReader& v);
  Json json() const;  // what fields() reads
};

// Paths of the decoder layers, "model.layers.0" ...: the longest list among those that are nearest
// to the root. Error when there is none.
std::vector<std::string> decoder_layers(const nn::Module& model);

// Paths of the layers that the config adapts, as mlx_lm's linear_to_lora_layers chooses them. Error
// when a key names no layer that can be adapted.
std::vector<std::string> adapted_paths(const nn::Module& model, const LoraConfig& config);

// Makes a model ready for training: everything frozen but the adapted layers' new parameters
// (type full: but the parameters of the last num_layers decoder layers).
void prepare_training(nn::Module& model, const LoraConfig& config);

}  // namespace mlxcpp::adapters

#pragma once

#include "lm_common/model_configuration.h"

namespace mlxcpp::vlm {

// The models with eyes or ears that can be asked for by a short name, with a prompt that shows each
// off.
const ModelPresets& presets();

// The settings of a model by its id: of a preset of these or of llm's, or a plain one.
ModelConfiguration configuration(const std::string& model);

}  // namespace mlxcpp::vlm

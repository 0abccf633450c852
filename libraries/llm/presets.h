#pragma once

#include "lm_common/model_configuration.h"

namespace mlxcpp::llm {

// The language models that can be asked for by a short name, with a prompt that shows each off.
const ModelPresets& presets();

}  // namespace mlxcpp::llm

#pragma once

#include <string_view>

#include "lm_common/model_configuration.h"

namespace mlxcpp::llm {

// The language models that can be asked for by a short name, with a prompt that shows each off.
const ModelPresets& presets();

// The model_type of a preset's config.json, which tells its family before anything is downloaded.
std::string_view model_type_of(const ModelConfiguration& preset);

}  // namespace mlxcpp::llm

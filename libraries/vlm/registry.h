#pragma once

#include "lm_common/model_types.h"

namespace mlxcpp::vlm {

// The types of config.json that have eyes or ears, and all those of llm: one table that makes a
// text or a media model as the config says.
const ModelTypes& model_types();
// Of these, the ones that take media.
std::vector<std::string> media_model_types();

}  // namespace mlxcpp::vlm

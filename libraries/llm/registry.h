#pragma once

#include "lm_common/model_types.h"

namespace mlxcpp::llm {

// model_type -> creator, for every language model there is.
const ModelTypes& model_types();

}  // namespace mlxcpp::llm

#pragma once

#include "lm_common/model_types.h"

// One function a family: its types. registry.cpp lists them.
namespace mlxcpp::vlm {

ModelTypes::Entry gemma3();
ModelTypes::Entry gemma3n();
ModelTypes::Entry idefics3();
ModelTypes::Entry paligemma();
ModelTypes::Entry qwen2_5_vl();
ModelTypes::Entry qwen2_vl();
ModelTypes::Entry smolvlm();

}  // namespace mlxcpp::vlm

#pragma once

#include "lm_common/language_model.h"

// One function a family; registry.cpp lists them by model_type.
namespace mlxcpp::llm {

Creator llama();
Creator mistral();
Creator qwen2();
Creator mimo();
Creator qwen3();
Creator smollm3();
Creator ernie4_5();
Creator qwen3_moe();
Creator gemma3_text();
Creator gemma3();

}  // namespace mlxcpp::llm

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
Creator gemma();
Creator gemma2();
Creator gemma3_text();
Creator gemma3();
Creator gemma3n_text();
Creator gemma3n();
Creator phi();
Creator phi3();
Creator starcoder2();
Creator cohere();
Creator granite();
Creator glm4();
Creator openelm();

}  // namespace mlxcpp::llm

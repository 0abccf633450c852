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
Creator baichuan_m1();
Creator bitnet();
Creator deepseek();
Creator deepseek_v2();
Creator deepseek_v3();
Creator dots1();
Creator glm4_moe();
Creator glm4_moe_lite();
Creator mixtral();
Creator olmoe();
Creator minimax();
Creator ernie4_5_moe();
Creator bailing_moe();
Creator minicpm();
Creator minicpm3();
Creator qwen2_moe();
Creator exaone4();
Creator internlm2();
Creator lfm2();
Creator lfm2_moe();
Creator exaone_moe();
Creator gemma();
Creator gemma2();
Creator gemma3_text();
Creator gemma3();
Creator gemma3n_text();
Creator gemma3n();
Creator phi();
Creator phi3();
Creator phimoe();
Creator starcoder2();
Creator cohere();
Creator granite();
Creator glm4();
Creator openelm();

}  // namespace mlxcpp::llm

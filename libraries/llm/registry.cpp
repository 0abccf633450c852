#include "llm/registry.h"

#include "llm/models.h"

namespace mlxcpp::llm {

const ModelTypes& model_types() {
  // clang-format off
  static const ModelTypes types = {
      {"acereason", qwen2()},
      {"cohere", cohere()},
      {"ernie4_5", ernie4_5()},
      {"gemma", gemma()},
      {"gemma2", gemma2()},
      {"gemma3", gemma3()},
      {"gemma3_text", gemma3_text()},
      {"gemma3n", gemma3n()},
      {"gemma3n_text", gemma3n_text()},
      {"glm4", glm4()},
      {"granite", granite()},
      {"llama", llama()},
      {"mimo", mimo()},
      {"mistral", mistral()},
      {"openelm", openelm()},
      {"phi", phi()},
      {"phi3", phi3()},
      {"qwen2", qwen2()},
      {"qwen3", qwen3()},
      {"qwen3_moe", qwen3_moe()},
      {"smollm3", smollm3()},
      {"starcoder2", starcoder2()},
  };
  // clang-format on
  return types;
}

}  // namespace mlxcpp::llm

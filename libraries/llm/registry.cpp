#include "llm/registry.h"

#include "llm/models.h"

namespace mlxcpp::llm {

const ModelTypes& model_types() {
  static const ModelTypes types = {
      {"gemma3", gemma3()}, {"gemma3_text", gemma3_text()},
      {"llama", llama()},   {"mistral", mistral()},
      {"qwen2", qwen2()},   {"qwen3", qwen3()},
  };
  return types;
}

}  // namespace mlxcpp::llm

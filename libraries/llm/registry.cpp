#include "llm/registry.h"

#include "llm/models.h"

namespace mlxcpp::llm {

const ModelTypes& model_types() {
  static const ModelTypes types = {
      {"acereason", qwen2()},         {"ernie4_5", ernie4_5()}, {"gemma3", gemma3()},
      {"gemma3_text", gemma3_text()}, {"llama", llama()},       {"mimo", mimo()},
      {"mistral", mistral()},         {"qwen2", qwen2()},       {"qwen3", qwen3()},
      {"qwen3_moe", qwen3_moe()},     {"smollm3", smollm3()},
  };
  return types;
}

}  // namespace mlxcpp::llm

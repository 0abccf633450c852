#include "llm/registry.h"

#include "llm/models.h"

namespace mlxcpp::llm {

const ModelTypes& model_types() {
  // clang-format off
  static const ModelTypes types = {
      {"acereason", qwen2()},
      {"baichuan_m1", baichuan_m1()},
      {"bailing_moe", bailing_moe()},
      {"bitnet", bitnet()},
      {"cohere", cohere()},
      {"deepseek", deepseek()},
      {"deepseek_v2", deepseek_v2()},
      {"deepseek_v3", deepseek_v3()},
      {"dots1", dots1()},
      {"ernie4_5", ernie4_5()},
      {"ernie4_5_moe", ernie4_5_moe()},
      {"exaone4", exaone4()},
      {"exaone_moe", exaone_moe()},
      {"gemma", gemma()},
      {"gemma2", gemma2()},
      {"gemma3", gemma3()},
      {"gemma3_text", gemma3_text()},
      {"gemma3n", gemma3n()},
      {"gemma3n_text", gemma3n_text()},
      {"glm4", glm4()},
      {"glm4_moe", glm4_moe()},
      {"glm4_moe_lite", glm4_moe_lite()},
      {"granite", granite()},
      {"internlm2", internlm2()},
      {"lfm2", lfm2()},
      {"lfm2_moe", lfm2_moe()},
      {"llama", llama()},
      {"mimo", mimo()},
      {"minicpm", minicpm()},
      {"minicpm3", minicpm3()},
      {"minimax", minimax()},
      {"mistral", mistral()},
      {"mixtral", mixtral()},
      {"olmoe", olmoe()},
      {"openelm", openelm()},
      {"phi", phi()},
      {"phi3", phi3()},
      {"phimoe", phimoe()},
      {"qwen2", qwen2()},
      {"qwen2_moe", qwen2_moe()},
      {"qwen3", qwen3()},
      {"qwen3_moe", qwen3_moe()},
      {"smollm3", smollm3()},
      {"starcoder2", starcoder2()},
  };
  // clang-format on
  return types;
}

}  // namespace mlxcpp::llm

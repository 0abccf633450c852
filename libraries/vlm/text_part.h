#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "lm_common/language_model.h"

namespace mlxcpp::vlm {

// The "text_config" of a multimodal config.json, ready for the language models of llm: its type is
// `type` where it names none, embeddings are tied as the outer level says, and keys in `without`,
// which say nothing of the language model, are gone. Error, which `where` starts, if it is missing.
Json text_config(const Json& config, std::string_view where, const char* type,
                 const std::vector<const char*>& without = {});

// The language model that such a config describes.
std::unique_ptr<LanguageModel> make_text_model(const Json& text_config);

}  // namespace mlxcpp::vlm

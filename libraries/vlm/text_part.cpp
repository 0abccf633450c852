#include "vlm/text_part.h"

#include "llm/registry.h"

namespace mlxcpp::vlm {

Json text_config(const Json& config, std::string_view where, const char* type,
                 const std::vector<const char*>& without) {
  Json text;
  ConfigReader(config, std::string(where)).need("text_config", text);
  if (!text.is_object())
    throw Error("{}: 'text_config' must be an object, found {}", where, describe(text));
  if (!text.contains("model_type")) text["model_type"] = type;
  if (const auto tied = config.find("tie_word_embeddings");
      tied != config.end() && !tied->is_null())
    text["tie_word_embeddings"] = *tied;
  for (const char* key : without) text.erase(key);
  return text;
}

std::unique_ptr<LanguageModel> make_text_model(const Json& text_config) {
  return llm::model_types().make(text_config, "config.json: text_config");
}

}  // namespace mlxcpp::vlm

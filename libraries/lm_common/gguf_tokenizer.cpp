#include "lm_common/gguf_tokenizer.h"

#include <string>
#include <string_view>
#include <vector>

namespace mlxcpp {
namespace {

constexpr std::string_view kVocabulary = "tokenizer.ggml.";
constexpr std::string_view kTemplate = "tokenizer.chat_template";

// Whether a key of the vocabulary is a flag; the others that are no lists are ids and texts.
bool is_flag(std::string_view name) {
  return name.starts_with("add_") || name.starts_with("remove_") || name.starts_with("normalizer.");
}

}  // namespace

std::shared_ptr<const Tokenizer> gguf_tokenizer(const GgufFile& file) {
  // The vocabulary holds views: what is copied out of the file has to live until the end.
  std::vector<float> scores;
  std::vector<int> types;
  std::string charsmap;

  GgufVocabulary v;
  v.where = file.where();
  for (const std::string_view key : file.keys()) {
    if (key.starts_with(kTemplate)) {
      // "tokenizer.chat_template", "tokenizer.chat_template.NAME"; the list of names is in the keys
      const std::string_view rest = key.substr(kTemplate.size());
      if (rest.empty() || rest.starts_with("."))
        v.chat_templates[rest.empty() ? "default" : std::string(rest.substr(1))] =
            file.need<std::string_view>(key);
      continue;
    }
    if (!key.starts_with(kVocabulary)) continue;
    const std::string name(key.substr(kVocabulary.size()));
    if (name == "model") {
      v.model = file.need<std::string_view>(key);
    } else if (name == "pre") {
      v.pre = file.need<std::string_view>(key);
    } else if (name == "tokens") {
      v.tokens = file.need<std::vector<std::string_view>>(key);
    } else if (name == "merges") {
      v.merges = file.need<std::vector<std::string_view>>(key);
    } else if (name == "scores") {
      scores = file.need<std::vector<float>>(key);
    } else if (name == "token_type") {
      types = file.need<std::vector<int>>(key);
    } else if (name == "precompiled_charsmap") {
      for (const int byte : file.need<std::vector<int>>(key))
        charsmap.push_back(static_cast<char>(byte));
    } else if (name.ends_with("_token_id")) {
      v.ids[name.substr(0, name.size() - std::string_view("_token_id").size())] =
          file.need<int>(key);
    } else if (is_flag(name) && !file.is_list(key)) {
      v.flags[name] = file.need<bool>(key);
    }
  }
  v.scores = scores;
  v.types = types;
  v.precompiled_charsmap = charsmap;
  return Tokenizer::from_gguf(v);
}

}  // namespace mlxcpp

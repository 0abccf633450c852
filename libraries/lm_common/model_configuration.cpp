#include "lm_common/model_configuration.h"

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "lm_common/nearest.h"

namespace mlxcpp {
namespace {

bool same_letters(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) {
    return std::tolower(x) == std::tolower(y);
  });
}

}  // namespace

std::string ModelConfiguration::reference() const {
  return revision == "main" ? id : id + "@" + revision;
}

std::string ModelConfiguration::short_name() const {
  const auto slash = id.find_last_of('/');
  return slash == std::string::npos ? id : id.substr(slash + 1);
}

const ModelConfiguration* ModelPresets::find(std::string_view name) const {
  for (const ModelConfiguration& c : all_)
    if (same_letters(c.id, name) || same_letters(c.short_name(), name)) return &c;
  return nullptr;
}

const ModelConfiguration& ModelPresets::at(std::string_view name) const {
  if (const ModelConfiguration* c = find(name)) return *c;
  std::vector<std::string> names;
  for (const ModelConfiguration& c : all_) names.push_back(c.short_name());
  throw Error(
      "no model is named '{}'{} (a model is a preset, a hub id 'org/name', a folder, a .gguf file, "
      "or 'pypi:PACKAGE')",
      name, did_you_mean(name, names));
}

ModelConfiguration ModelPresets::configuration(const std::string& name) const {
  if (const ModelConfiguration* preset = find(name)) return *preset;
  if (std::filesystem::exists(name)) return {.id = name};
  const auto at_sign = name.find('@');
  const std::string id = name.substr(0, at_sign);
  if (const ModelConfiguration* preset = find(id)) {  // at a revision of its own
    ModelConfiguration c = *preset;
    c.revision = name.substr(at_sign + 1);
    return c;
  }
  if (id.find_first_of("/:") == std::string::npos) {
    if (id.ends_with(".gguf")) throw Error("{}: no such file", name);
    return at(name);  // throws
  }
  return {.id = name};
}

TokenizerReplacements::TokenizerReplacements()
    : classes_{{"InternLM2Tokenizer", "PreTrainedTokenizer"},
               {"Qwen2Tokenizer", "PreTrainedTokenizer"},
               {"Qwen3Tokenizer", "PreTrainedTokenizer"},
               {"CohereTokenizer", "PreTrainedTokenizer"}} {}

TokenizerReplacements& TokenizerReplacements::shared() {
  static TokenizerReplacements replacements;
  return replacements;
}

std::string TokenizerReplacements::operator()(const std::string& tokenizer_class) const {
  const std::lock_guard lock(mutex_);
  const auto it = classes_.find(tokenizer_class);
  return it == classes_.end() ? tokenizer_class : it->second;
}

void TokenizerReplacements::set(const std::string& tokenizer_class,
                                const std::string& replacement) {
  const std::lock_guard lock(mutex_);
  classes_[tokenizer_class] = replacement;
}

std::string tokenizer_class(const ModelConfiguration& configuration, const Json& tokenizer_config) {
  if (!configuration.override_tokenizer.empty()) return configuration.override_tokenizer;
  if (!tokenizer_config.is_object()) return {};
  std::string found;
  ConfigReader(tokenizer_config, "tokenizer_config.json").maybe("tokenizer_class", found);
  return TokenizerReplacements::shared()(found);
}

}  // namespace mlxcpp

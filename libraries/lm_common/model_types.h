#pragma once

#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lm_common/language_model.h"
#include "lm_common/processor.h"
#include "lm_common/user_input.h"

namespace mlxcpp {

// What config.json's "model_type" stands for. A visible table, in order; nothing registers itself:
//   const ModelTypes types{{"llama", llama()}, {"gemma", gemma(), messages_without_system}, ...};
class ModelTypes {
 public:
  struct Entry {
    std::string name;
    Creator make;
    // How the family wants its messages; none: as its chat template allows (see
    // message_generator_for).
    MessageGenerator messages = {};
    ProcessorMaker processor = {};  // of families with eyes or ears
    // Of those: what takes checkpoints of the type that lack the towers' weights.
    Creator text_only = {};
  };

  ModelTypes(std::initializer_list<Entry> entries) : entries_(entries) {}

  // Adds a type, or replaces one of the same name.
  void add(Entry entry);
  bool contains(std::string_view name) const;
  // Throws an Error that names the nearest types and says how to add one.
  const Entry& at(std::string_view name) const;
  std::vector<std::string> names() const;

  // That of a config.json, by its "model_type". `where` stands in messages: the file.
  const Entry& of(const Json& config, std::string_view where = "config.json") const;

  // The model that a config.json describes, without weights. `where` as above.
  std::unique_ptr<LanguageModel> make(const Json& config,
                                      std::string_view where = "config.json") const;

 private:
  const Entry* find(std::string_view name) const;

  std::vector<Entry> entries_;
};

// Whether a checkpoint has weights of towers that see or hear.
bool has_towers(const nn::Weights& weights);

// config.json's "model_type".
std::string model_type(const Json& config, std::string_view where = "config.json");

}  // namespace mlxcpp

#pragma once

#include <filesystem>
#include <functional>
#include <memory>

#include "lm_common/user_input.h"

namespace mlxcpp {

// From what a person asks to what a model with eyes or ears computes: reads media, and writes
// their placeholders into the prompt. Immutable, safe from any thread.
class Processor {
 public:
  virtual ~Processor() = default;

  virtual LMInput prepare(const UserInput& input, const Tokenizer& tokenizer) const = 0;
  // What it does with media, for --list-config: an object.
  virtual Json describe() const = 0;
};

// From a model's config.json and folder (preprocessor_config.json and its kin); null when the
// config describes a model of text.
using ProcessorMaker = std::function<std::shared_ptr<const Processor>(
    const Json& config, const std::filesystem::path& folder)>;

}  // namespace mlxcpp

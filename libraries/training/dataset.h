#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace mlxcpp::training {

// One line of a data file.
struct Example {
  std::vector<int> tokens;
  int prompt = 0;  // so many tokens at the front are given, not learned
};

struct DataOptions {
  bool mask_prompt = false;            // of "messages" and "prompt"/"completion": no loss on it
  std::optional<int> vocab_size = {};  // of the model: an id beyond it is an Error
};

// NAME.jsonl of the folder or, where there is none, NAME.txt; nullopt: neither is there. A line of
// JSON has "prompt" and "completion", or "messages", or "text" (looked for in this order, as
// mlx_lm does), the first two with "tools" if need be: the chat template is applied. A line of .txt
// is a text. A text ends with the end-of-sequence token. Empty lines are passed over. Error names
// file, line and key for anything else, and for a file without a single example.
std::optional<std::vector<Example>> load_split(const std::filesystem::path& folder,
                                               const std::string& name, const Tokenizer& tokenizer,
                                               const DataOptions& options = {});

// The same, where there must be one.
std::vector<Example> need_split(const std::filesystem::path& folder, const std::string& name,
                                const Tokenizer& tokenizer, const DataOptions& options = {});

// A number that another content or order of the examples changes.
uint64_t fingerprint(const std::vector<Example>& examples);

}  // namespace mlxcpp::training

#pragma once

// The files beside a tokenizer's vocabulary. Not for users of the library.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/json.h"

namespace mlxcpp {

struct AddedToken {
  std::string content;
  bool special = true, normalized = false, single_word = false, lstrip = false, rstrip = false;
};

struct TokenizerFiles {
  std::string tokenizer_class;                        // of tokenizer_config.json, may be empty
  Json config = Json::object();                       // tokenizer_config.json
  std::map<std::string, std::string> special_tokens;  // "bos_token": "<s>", ...
  std::vector<AddedToken> added_tokens;               // in the order of their ids
  std::vector<AddedToken> special;                    // to be added where they are missing
  std::map<std::string, std::string> chat_templates;  // by name
  std::string chat_template_where;                    // the file they come from
  std::vector<int> eos_ids;                           // generation_config.json's
};

// Reads tokenizer_config.json, special_tokens_map.json, added_tokens.json, generation_config.json
// and the chat templates of a folder; each may be absent.
TokenizerFiles read_tokenizer_files(const std::filesystem::path& folder);

// The "eos_token_id" of a generation_config.json, one or several; none where it has none. Error,
// which `where` starts, for what is not an id.
std::vector<int> read_eos_ids(const Json& generation, const std::string& where);

// A whole file; Errors name it. Larger than `limit`: an Error.
std::string read_text_file(const std::filesystem::path& file, size_t limit = size_t{1} << 28);

}  // namespace mlxcpp

#pragma once

#include <istream>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"

namespace mlxcpp::tools {

// A text, and the object it came in (JSONL), or null.
struct InputText {
  std::string text;
  Json object;
};

// Texts from the command line, or one after the other from the lines of a file or of standard
// input. Of lines that are JSON objects, one field is the text; a JSON string is a text by itself.
class TextInput {
 public:
  explicit TextInput(const std::vector<std::string>& texts);
  // "-": standard input. Throws when it cannot be read.
  TextInput(const std::string& file, bool jsonl, std::string field);
  ~TextInput();

  // At most `count` of those to come; none at the end.
  std::vector<InputText> next(size_t count);

 private:
  std::optional<InputText> line();

  std::vector<std::string> texts_;
  std::unique_ptr<std::istream> file_;
  std::istream* in_ = nullptr;
  std::string name_, field_;
  bool jsonl_ = false;
  size_t number_ = 0;
};

}  // namespace mlxcpp::tools

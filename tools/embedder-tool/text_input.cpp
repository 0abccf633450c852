#include "embedder-tool/text_input.h"

#include <fstream>
#include <iostream>

#include "support/options.h"

namespace mlxcpp::tools {

TextInput::TextInput(const std::vector<std::string>& texts) : texts_(texts) {}

TextInput::TextInput(const std::string& file, bool jsonl, std::string field)
    : in_(&std::cin), name_(file), field_(std::move(field)), jsonl_(jsonl) {
  if (file == "-") {
    name_ = "standard input";
    return;
  }
  file_ = std::make_unique<std::ifstream>(file, std::ios::binary);
  if (!*file_ || std::filesystem::is_directory(file)) throw Error("{}: cannot be read", file);
  in_ = file_.get();
}

TextInput::~TextInput() = default;

std::optional<InputText> TextInput::line() {
  if (!in_) {
    if (number_ == texts_.size()) return std::nullopt;
    return InputText{texts_[number_++], nullptr};
  }
  std::string text;
  if (!std::getline(*in_, text)) {
    if (in_->bad()) throw Error("{}: cannot be read after line {}", name_, number_);
    return std::nullopt;
  }
  ++number_;
  if (text.ends_with('\r')) text.pop_back();
  const std::string where = fmt::format("{}:{}", name_, number_);
  if (!jsonl_) {
    check_utf8(text, where);
    return InputText{std::move(text), nullptr};
  }
  Json json = parse_json(text, where);
  if (json.is_string()) return InputText{json.get<std::string>(), nullptr};
  if (!json.is_object())
    throw Error("{}: expected an object or a string, found {}", where, describe(json));
  const auto it = json.find(field_);
  if (it == json.end() || !it->is_string())
    throw Error("{}: expected a string '{}', found {}", where, field_,
                it == json.end() ? "none" : describe(*it));
  std::string found = it->get<std::string>();
  return InputText{std::move(found), std::move(json)};
}

std::vector<InputText> TextInput::next(size_t count) {
  std::vector<InputText> out;
  while (out.size() < count) {
    auto text = line();
    if (!text) break;
    out.push_back(std::move(*text));
  }
  return out;
}

}  // namespace mlxcpp::tools

// GLM-4: an answer that is the tool's name, a newline, and its arguments as JSON. GLM-4.5:
// <tool_call>name, then <arg_key>key</arg_key><arg_value>value</arg_value> pairs, </tool_call>.
// Values are as they are for parameters of type string, else JSON where they can be.
// Source: the chat templates of zai-org/GLM-4-9B-0414 and GLM-4.5.
#include <algorithm>
#include <utility>

#include "lm_common/tools/calls.h"
#include "lm_common/tools/formats.h"

namespace mlxcpp {
namespace {

using namespace tool_text;

constexpr std::string_view kOpen = "<tool_call>", kClose = "</tool_call>", kKey = "<arg_key>",
                           kKeyEnd = "</arg_key>", kValue = "<arg_value>",
                           kValueEnd = "</arg_value>";

class Glm4 final : public ToolCallFormat {
 public:
  explicit Glm4(std::vector<ToolSpec> tools) : tools_(std::move(tools)) {}

  std::vector<std::string> marks() const override { return {std::string(kOpen)}; }
  std::vector<std::string> tokens() const override {
    return {std::string(kOpen),   std::string(kClose), std::string(kKey),
            std::string(kKeyEnd), std::string(kValue), std::string(kValueEnd)};
  }
  bool at_start() const override { return true; }
  ToolCallMatch match(std::string_view text, bool end) const override {
    return text.starts_with(kOpen) ? tagged(text, end) : plain(text, end);
  }

 private:
  const ToolSpec* tool(std::string_view name) const {
    const auto it = std::find_if(tools_.begin(), tools_.end(),
                                 [&](const ToolSpec& t) { return t.name == name; });
    return it == tools_.end() ? nullptr : &*it;
  }

  // Only names that are known: a first line of prose may look like one.
  ToolCallMatch plain(std::string_view text, bool end) const {
    ToolCallMatch undecided{end ? Found::no : Found::more};
    const Scan name = identifier(text, 0);
    if (name.found == Found::more) return undecided;
    if (name.found == Found::no) return {Found::no};
    ToolCall c{.name = std::string(text.substr(0, name.end))};
    if (text[name.end] != '\n' || !tool(c.name)) return {Found::no};
    const size_t begin = skip_space(text, name.end);
    if (begin == text.size()) return undecided;
    if (text[begin] != '{') return {Found::no};
    const Scan body = bracketed(text, begin);
    if (body.found == Found::more) return undecided;
    if (body.found == Found::no) return {Found::no};
    auto arguments = json(text.substr(begin, body.end - begin));
    if (!arguments) return {Found::no};
    c.arguments = std::move(*arguments);
    return {Found::yes, body.end, {std::move(c)}};
  }

  ToolCallMatch tagged(std::string_view text, bool end) const {
    ToolCallMatch undecided{end ? Found::no : Found::more};
    size_t at = skip_space(text, kOpen.size());
    const Scan name = identifier(text, at);
    if (name.found == Found::more) return undecided;
    if (name.found == Found::no) return {Found::no};
    ToolCall c{.name = std::string(text.substr(at, name.end - at))};
    const ToolSpec* spec = tool(c.name);
    for (at = name.end;;) {
      at = skip_space(text, at);
      const Scan close = literal(text, at, kClose);
      if (close.found == Found::yes) return {Found::yes, close.end, {std::move(c)}};
      std::string_view key, value;
      Scan pair = element(text, at, kKey, kKeyEnd, key);
      if (pair.found == Found::yes)
        pair = element(text, skip_space(text, pair.end), kValue, kValueEnd, value);
      if (close.found == Found::more || pair.found == Found::more) return undecided;
      if (pair.found == Found::no) return {Found::no};
      at = pair.end;
      const ToolParameter* p = spec ? spec->parameter(key) : nullptr;
      auto j = p && p->type == "string" ? std::nullopt : json(value);
      c.arguments[std::string(key)] = j ? std::move(*j) : OrderedJson(std::string(value));
    }
  }

  // <open>inside<close>
  static Scan element(std::string_view text, size_t at, std::string_view open,
                      std::string_view close, std::string_view& inside) {
    const Scan begin = literal(text, at, open);
    if (begin.found != Found::yes) return begin;
    const size_t end = text.find(close, begin.end);
    if (end == std::string_view::npos) return {Found::more};
    inside = text.substr(begin.end, end - begin.end);
    return {Found::yes, end + close.size()};
  }

  std::vector<ToolSpec> tools_;
};

}  // namespace

std::unique_ptr<const ToolCallFormat> glm4_format(const std::vector<ToolSpec>& tools) {
  return std::make_unique<Glm4>(tools);
}

}  // namespace mlxcpp

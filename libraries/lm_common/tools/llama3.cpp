// Llama 3.1 to 3.3: an answer that is {"name": ..., "parameters": {...}}, several separated by
// semicolons; after <|python_tag|> the same, or `tool.call(query="...")` of the built-in tools.
// Llama 3.2 without its chat template: an answer that is [name(key="value"), ...].
// Source: meta-llama/llama-models, models/llama3_1/prompt_format.md,
// llama3_2/text_prompt_format.md.
#include "lm_common/tools/calls.h"
#include "lm_common/tools/formats.h"

namespace mlxcpp {
namespace {

using namespace tool_text;

constexpr std::string_view kTag = "<|python_tag|>";

struct Llama3 final : ToolCallFormat {
  std::vector<std::string> marks() const override { return {std::string(kTag)}; }
  bool at_start() const override { return true; }

  ToolCallMatch match(std::string_view text, bool end) const override {
    const bool tagged = text.starts_with(kTag);
    size_t begin = skip_space(text, tagged ? kTag.size() : 0);
    if (!tagged && begin < text.size() && text[begin] == ';') begin = skip_space(text, begin + 1);
    if (begin == text.size()) return {end ? Found::no : Found::more};
    if (text[begin] == '[' && !tagged) return python_list(text, begin, end);
    if (text[begin] != '{') return tagged ? builtin(text, begin, end) : ToolCallMatch{};
    const Scan body = bracketed(text, begin);
    if (body.found != Found::yes) return {end ? Found::no : body.found};
    auto calls = calls_of(text.substr(begin, body.end - begin));
    if (!calls) return {Found::no};
    return {Found::yes, body.end, std::move(*calls)};
  }

 private:
  // `brave_search.call(query="...")`: the tool's name is before the last point.
  static ToolCallMatch builtin(std::string_view text, size_t begin, bool end) {
    const Scan name = identifier(text, begin);
    if (name.found != Found::yes) return {end ? Found::no : name.found};
    if (text[name.end] != '(') return {Found::no};
    const Scan body = bracketed(text, name.end, true);
    if (body.found != Found::yes) return {end ? Found::no : body.found};
    auto calls = python_calls(text.substr(begin, body.end - begin));
    if (!calls || !calls->front().name.ends_with(".call")) return {Found::no};
    calls->front().name.resize(calls->front().name.size() - 5);
    return {Found::yes, body.end, std::move(*calls)};
  }
};

}  // namespace

std::unique_ptr<const ToolCallFormat> llama3_format() { return std::make_unique<Llama3>(); }

}  // namespace mlxcpp

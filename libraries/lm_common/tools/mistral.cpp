// [TOOL_CALLS][{"name": ..., "arguments": {...}, "id": ...}], and from tokenizer version 11 on
// [TOOL_CALLS]name[CALL_ID]id[ARGS]{...}, the mark repeated for each call.
// Source: mistralai/mistral-common, tokens/tokenizers/instruct.py.
#include "lm_common/tools/calls.h"
#include "lm_common/tools/formats.h"

namespace mlxcpp {
namespace {

using namespace tool_text;

constexpr std::string_view kMark = "[TOOL_CALLS]", kArgs = "[ARGS]", kId = "[CALL_ID]";

struct Mistral final : ToolCallFormat {
  std::vector<std::string> marks() const override { return {std::string(kMark)}; }
  std::vector<std::string> tokens() const override {
    return {std::string(kMark), std::string(kArgs), std::string(kId)};
  }

  ToolCallMatch match(std::string_view text, bool end) const override {
    size_t at = skip_space(text, kMark.size());
    if (at == text.size()) return {end ? Found::no : Found::more};
    if (text[at] == '[' || text[at] == '{') return json_between(text, kMark, "", end);
    ToolCallMatch undecided{end ? Found::no : Found::more};
    const Scan name = identifier(text, at);
    if (name.found == Found::more) return undecided;
    if (name.found == Found::no) return {Found::no};
    ToolCall call{.name = std::string(text.substr(at, name.end - at))};
    at = skip_space(text, name.end);
    if (const Scan id = literal(text, at, kId); id.found == Found::yes) {
      const Scan value = identifier(text, id.end);
      if (value.found == Found::more) return undecided;
      call.id = text.substr(id.end, value.end - id.end);
      at = value.end;
    } else if (id.found == Found::more) {
      return undecided;
    }
    const Scan args = literal(text, at, kArgs);
    if (args.found == Found::more) return undecided;
    if (args.found == Found::no) return {Found::no};
    at = skip_space(text, args.end);
    const Scan body = bracketed(text, at);
    if (at == text.size() || body.found == Found::more) return undecided;
    if (body.found == Found::no) return {Found::no};
    auto arguments = json(text.substr(at, body.end - at));
    if (!arguments || !arguments->is_object()) return {Found::no};
    call.arguments = std::move(*arguments);
    return {Found::yes, body.end, {std::move(call)}};
  }
};

}  // namespace

std::unique_ptr<const ToolCallFormat> mistral_format() { return std::make_unique<Mistral>(); }

}  // namespace mlxcpp

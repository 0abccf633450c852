// DeepSeek V3 and R1: a call is `function<sep>name`, then the arguments as a ```json block; V3.1:
// `name<sep>{...}`. Marks have full-width bars and U+2581 for spaces.
// Source: the chat templates of deepseek-ai/DeepSeek-V3-0324 and DeepSeek-V3.1.
#include "lm_common/tools/calls.h"
#include "lm_common/tools/formats.h"

namespace mlxcpp {
namespace {

using namespace tool_text;

constexpr std::string_view kCalls = "<｜tool▁calls▁begin｜>", kCallsEnd = "<｜tool▁calls▁end｜>",
                           kCall = "<｜tool▁call▁begin｜>", kCallEnd = "<｜tool▁call▁end｜>",
                           kSep = "<｜tool▁sep｜>", kFence = "```json", kFenceEnd = "```";

struct DeepSeek final : ToolCallFormat {
  std::vector<std::string> marks() const override {
    return {std::string(kCalls), std::string(kCall)};
  }
  std::vector<std::string> tokens() const override {
    return {std::string(kCalls), std::string(kCallsEnd), std::string(kCall), std::string(kCallEnd),
            std::string(kSep)};
  }

  ToolCallMatch match(std::string_view text, bool end) const override {
    ToolCallMatch m{Found::yes};
    const bool listed = text.starts_with(kCalls);
    size_t at = listed ? skip_space(text, kCalls.size()) : 0;
    for (;;) {
      const Scan open = literal(text, at, kCall);
      if (open.found == Found::more && !end) return {Found::more};
      if (open.found != Found::yes) break;
      const Scan one = call(text, open.end, m.calls);
      if (one.found == Found::more && !end) return {Found::more};
      if (one.found != Found::yes) return {Found::no};
      m.length = one.end;
      if (!listed) return m;
      at = skip_space(text, one.end);
    }
    if (m.calls.empty()) return {Found::no};
    const Scan close = literal(text, at, kCallsEnd);
    if (close.found == Found::more && !end) return {Found::more};
    if (close.found == Found::yes) m.length = close.end;
    return m;
  }

 private:
  // What stands between kCall and kCallEnd.
  static Scan call(std::string_view text, size_t begin, std::vector<ToolCall>& calls) {
    const Scan name = identifier(text, begin);
    if (name.found != Found::yes) return name;
    const Scan sep = literal(text, name.end, kSep);
    if (sep.found != Found::yes) return sep;
    ToolCall c{.name = std::string(text.substr(begin, name.end - begin))};
    size_t at = sep.end;
    bool fenced = false;
    if (at == text.size()) return {Found::more};
    if (text[at] != '{' && c.name == "function") {
      const Scan real = identifier(text, at);
      if (real.found != Found::yes) return real;
      c.name = text.substr(at, real.end - at);
      const Scan fence = literal(text, at = skip_space(text, real.end), kFence);
      if (fence.found != Found::yes) return fence;
      at = skip_space(text, fence.end);
      fenced = true;
    } else {
      at = skip_space(text, at);
    }
    if (at == text.size()) return {Found::more};
    const Scan body = bracketed(text, at);
    if (body.found != Found::yes) return body;
    auto arguments = json(text.substr(at, body.end - at));
    if (!arguments || !arguments->is_object()) return {Found::no};
    at = skip_space(text, body.end);
    if (fenced) {
      const Scan fence = literal(text, at, kFenceEnd);
      if (fence.found != Found::yes) return fence;
      at = skip_space(text, fence.end);
    }
    const Scan close = literal(text, at, kCallEnd);
    if (close.found != Found::yes) return close;
    c.arguments = std::move(*arguments);
    calls.push_back(std::move(c));
    return close;
  }
};

}  // namespace

std::unique_ptr<const ToolCallFormat> deepseek_format() { return std::make_unique<DeepSeek>(); }

}  // namespace mlxcpp

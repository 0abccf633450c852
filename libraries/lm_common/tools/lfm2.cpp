// <|tool_call_start|>[name(key="value"), ...]<|tool_call_end|>: Python calls; JSON when asked for.
// Source: the model card of LiquidAI/LFM2-1.2B.
#include "lm_common/tools/calls.h"
#include "lm_common/tools/formats.h"

namespace mlxcpp {
namespace {

using namespace tool_text;

constexpr std::string_view kOpen = "<|tool_call_start|>", kClose = "<|tool_call_end|>";

struct Lfm2 final : ToolCallFormat {
  std::vector<std::string> marks() const override { return {std::string(kOpen)}; }
  std::vector<std::string> tokens() const override {
    return {std::string(kOpen), std::string(kClose)};
  }

  ToolCallMatch match(std::string_view text, bool end) const override {
    const Scan close = outside_strings(text, kOpen.size(), kClose);
    if (close.found == Found::more && !end) return {Found::more};
    const bool closed = close.found == Found::yes;
    const size_t stop = closed ? close.end - kClose.size() : text.size();
    const std::string_view body = text.substr(kOpen.size(), stop - kOpen.size());
    auto calls = python_calls(body);
    if (!calls) calls = calls_of(body);
    if (!calls) return {Found::no};
    return {Found::yes, closed ? close.end : text.size(), std::move(*calls)};
  }
};

}  // namespace

std::unique_ptr<const ToolCallFormat> lfm2_format() { return std::make_unique<Lfm2>(); }

}  // namespace mlxcpp

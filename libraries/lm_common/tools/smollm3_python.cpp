// <code>name(key="value")</code>: SmolLM3's python_tools. Only code that does nothing but call
// tools with literals is taken as calls; other code is for an interpreter, and stays text. Source:
// the chat template of HuggingFaceTB/SmolLM3-3B.
#include "lm_common/tools/calls.h"
#include "lm_common/tools/formats.h"

namespace mlxcpp {
namespace {

using namespace tool_text;

constexpr std::string_view kOpen = "<code>", kClose = "</code>";

struct SmolLm3Python final : ToolCallFormat {
  std::vector<std::string> marks() const override { return {std::string(kOpen)}; }

  ToolCallMatch match(std::string_view text, bool end) const override {
    const Scan close = outside_strings(text, kOpen.size(), kClose);
    if (close.found != Found::yes) return {end ? Found::no : Found::more};
    auto calls = python_calls(text.substr(kOpen.size(), close.end - kClose.size() - kOpen.size()));
    if (!calls) return {Found::no};
    return {Found::yes, close.end, std::move(*calls)};
  }
};

}  // namespace

std::unique_ptr<const ToolCallFormat> smollm3_python_format() {
  return std::make_unique<SmolLm3Python>();
}

}  // namespace mlxcpp

// <tool_call>{"name": ..., "arguments": {...}}</tool_call>: Hermes, Qwen, and SmolLM3's xml_tools.
// Source: the chat templates of Qwen/Qwen3-0.6B and HuggingFaceTB/SmolLM3-3B.
#include "lm_common/tools/calls.h"
#include "lm_common/tools/formats.h"

namespace mlxcpp {
namespace {

struct JsonTags final : ToolCallFormat {
  std::vector<std::string> marks() const override { return {"<tool_call>"}; }
  std::vector<std::string> tokens() const override { return {"<tool_call>", "</tool_call>"}; }
  ToolCallMatch match(std::string_view text, bool end) const override {
    return tool_text::json_between(text, "<tool_call>", "</tool_call>", end);
  }
};

}  // namespace

std::unique_ptr<const ToolCallFormat> json_tags_format() { return std::make_unique<JsonTags>(); }

}  // namespace mlxcpp

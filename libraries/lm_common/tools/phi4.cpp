// <|tool_call|>[{"name": ..., "arguments": {...}}]<|/tool_call|>, or functools[...] as an answer.
// Source: the model card of microsoft/Phi-4-mini-instruct; vllm phi4mini_tool_parser.py.
#include "lm_common/tools/calls.h"
#include "lm_common/tools/formats.h"

namespace mlxcpp {
namespace {

struct Phi4 final : ToolCallFormat {
  std::vector<std::string> marks() const override { return {"<|tool_call|>", "functools["}; }
  std::vector<std::string> tokens() const override { return {"<|tool_call|>", "<|/tool_call|>"}; }
  ToolCallMatch match(std::string_view text, bool end) const override {
    if (text.starts_with("functools")) return tool_text::json_between(text, "functools", "", end);
    return tool_text::json_between(text, "<|tool_call|>", "<|/tool_call|>", end);
  }
};

}  // namespace

std::unique_ptr<const ToolCallFormat> phi4_format() { return std::make_unique<Phi4>(); }

}  // namespace mlxcpp

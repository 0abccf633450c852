// Command R7B and A: <|START_ACTION|>[{"tool_call_id": "0", "tool_name": ..., "parameters": {...}}]
// <|END_ACTION|>. Command R: Action: ```json [{"tool_name": ..., "parameters": {...}}] ```.
// Source: the chat templates of CohereLabs/c4ai-command-r7b-12-2024 and c4ai-command-r-v01.
#include "lm_common/tools/calls.h"
#include "lm_common/tools/formats.h"

namespace mlxcpp {
namespace {

constexpr std::string_view kAction = "Action: ```json";

struct Cohere final : ToolCallFormat {
  std::vector<std::string> marks() const override {
    return {"<|START_ACTION|>", std::string(kAction)};
  }
  std::vector<std::string> tokens() const override {
    return {"<|START_ACTION|>", "<|END_ACTION|>"};
  }
  ToolCallMatch match(std::string_view text, bool end) const override {
    if (text.starts_with(kAction)) return tool_text::json_between(text, kAction, "```", end);
    return tool_text::json_between(text, "<|START_ACTION|>", "<|END_ACTION|>", end);
  }
};

}  // namespace

std::unique_ptr<const ToolCallFormat> cohere_format() { return std::make_unique<Cohere>(); }

}  // namespace mlxcpp

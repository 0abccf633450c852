#include "lm_common/tools/formats.h"

#include <fmt/ranges.h>

#include "core/error.h"

namespace mlxcpp {
namespace {

using Make = std::unique_ptr<const ToolCallFormat> (*)(const std::vector<ToolSpec>& tools);

struct Row {
  const char* name;
  Make make;
  // What chat templates that use it have in them; the first row with one decides.
  std::vector<std::string_view> signs;
};

template <std::unique_ptr<const ToolCallFormat> (*make)()>
std::unique_ptr<const ToolCallFormat> plain(const std::vector<ToolSpec>&) {
  return make();
}

// From the most particular sign to the least: <tool_call> and <code> stand in several templates.
const std::vector<Row>& rows() {
  static const std::vector<Row> all = {
      {"deepseek", plain<deepseek_format>, {"<｜tool▁call▁begin｜>"}},
      {"mistral", plain<mistral_format>, {"[TOOL_CALLS]"}},
      {"cohere", plain<cohere_format>, {"<|START_ACTION|>", "Action: ```json", "Action:```json"}},
      {"lfm2", plain<lfm2_format>, {"<|tool_call_start|>", "<|tool_list_start|>"}},
      {"phi4", plain<phi4_format>, {"<|tool_call|>", "<|/tool|>", "functools"}},
      {"gemma", plain<gemma_format>, {"<start_function_call>", "tool_code"}},
      {"llama3", plain<llama3_format>, {"<|python_tag|>", "Environment: ipython"}},
      {"glm4", glm4_format, {"<arg_key>", "<|observation|>"}},
      {"json", plain<json_tags_format>, {"<tool_call>"}},
      {"smollm3_python", plain<smollm3_python_format>, {"<code>"}},
  };
  return all;
}

std::vector<std::string> format_names() {
  std::vector<std::string> names;
  for (const Row& row : rows()) names.emplace_back(row.name);
  return names;
}

const Row& row_of(std::string_view format) {
  for (const Row& row : rows())
    if (row.name == format) return row;
  throw Error("no tool-call format '{}'; there are: {}", format, fmt::join(format_names(), ", "));
}

}  // namespace

std::vector<std::string> tool_call_formats() { return format_names(); }

std::optional<std::string> tool_call_format_of(std::string_view chat_template) {
  for (const Row& row : rows())
    for (const std::string_view sign : row.signs)
      if (chat_template.find(sign) != std::string_view::npos) return row.name;
  return std::nullopt;
}

std::vector<std::string> tool_call_tokens(std::string_view format) {
  return row_of(format).make({})->tokens();
}

std::unique_ptr<ToolCallProcessor> tool_call_processor(std::string_view format,
                                                       const std::vector<ToolSpec>& tools) {
  return std::make_unique<ToolCallStream>(row_of(format).make(tools));
}

}  // namespace mlxcpp

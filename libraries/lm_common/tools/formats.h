// The formats of tool calls, one file each.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lm_common/tools/stream.h"
#include "lm_common/tools/tool.h"

namespace mlxcpp {

std::unique_ptr<const ToolCallFormat> cohere_format();
std::unique_ptr<const ToolCallFormat> deepseek_format();
std::unique_ptr<const ToolCallFormat> gemma_format();
// The tools tell names from prose, and strings from numbers.
std::unique_ptr<const ToolCallFormat> glm4_format(const std::vector<ToolSpec>& tools);
std::unique_ptr<const ToolCallFormat> json_tags_format();
std::unique_ptr<const ToolCallFormat> lfm2_format();
std::unique_ptr<const ToolCallFormat> llama3_format();
std::unique_ptr<const ToolCallFormat> mistral_format();
std::unique_ptr<const ToolCallFormat> phi4_format();
std::unique_ptr<const ToolCallFormat> smollm3_python_format();

// cohere, deepseek, gemma, glm4, json, lfm2, llama3, mistral, phi4, smollm3_python
std::vector<std::string> tool_call_formats();
// Which of them a chat template speaks of; none when it speaks of none.
std::optional<std::string> tool_call_format_of(std::string_view chat_template);
// Texts that the format's special tokens have: they must not be left out of an answer's text.
std::vector<std::string> tool_call_tokens(std::string_view format);
// For one answer. Throws an Error that lists the formats when there is none of that name.
std::unique_ptr<ToolCallProcessor> tool_call_processor(std::string_view format,
                                                       const std::vector<ToolSpec>& tools = {});

}  // namespace mlxcpp

// Tool calls written as JSON, and lists of Python's calls: what several formats share.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "lm_common/tools/stream.h"

namespace mlxcpp::tool_text {

// JSON, or nothing where the text is none (or nested too deep).
std::optional<OrderedJson> json(std::string_view text);

// {"name": ..., "arguments": {...}}, maybe with "id" or "tool_call_id"; also "tool_name",
// "parameters", {"function": {...}}, and arguments that are JSON in a string. None where it is no
// call.
std::optional<ToolCall> call_of(const OrderedJson& j);
// One such object, or a list of them; none when any is no call, or there are none.
std::optional<std::vector<ToolCall>> calls_of(const OrderedJson& j);
std::optional<std::vector<ToolCall>> calls_of(std::string_view text);

// Python: `name(key=value, ...)`, several of them separated by commas, semicolons or newlines, with
// or without [ ] around all, and each with `variable =` before it or print() around it. Values are
// literals. Positional arguments make it no call.
std::optional<std::vector<ToolCall>> python_calls(std::string_view text);
// [name(key=value), ...] whose bracket is at `begin`.
ToolCallMatch python_list(std::string_view text, size_t begin, bool end);
// One literal: string, number, True, None, list, tuple or dict; also JSON's true and null.
std::optional<OrderedJson> python_value(std::string_view text);

// `open`, white space, JSON calls, white space, `close`. An empty `close`, or one that does not
// come before the answer's end, is no part of it.
ToolCallMatch json_between(std::string_view text, std::string_view open, std::string_view close,
                           bool end);

}  // namespace mlxcpp::tool_text

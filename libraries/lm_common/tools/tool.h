#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/ordered_json.h"
#include "lm_common/tool_calls.h"

namespace mlxcpp {

// A parameter of a tool. `type` is JSON schema's: string, integer, number, boolean, array, object;
// "any": the schema says.
struct ToolParameter {
  std::string name, type = "string", description = {};
  bool required = true;
  OrderedJson schema = OrderedJson::object();  // further keys: enum, items, properties, ...
};

// What a model is told of a tool, in the form that chat templates print:
// {"type": "function", "function": {"name", "description", "parameters": {JSON schema}}}.
struct ToolSpec {
  std::string name, description = {};
  std::vector<ToolParameter> parameters = {};
  OrderedJson schema = OrderedJson::object();  // further keys of the parameters: $defs, ...

  OrderedJson json() const;
  // Throws an Error that names `where` and the key; {"name", ...} alone is taken, too.
  static ToolSpec from_json(const OrderedJson& json, std::string_view where = "tool");
  const ToolParameter* parameter(std::string_view name) const;
  // Throws an Error where the arguments lack what is required, have what is not known, or have
  // another type than the parameter's.
  void check(const OrderedJson& arguments) const;
};

// A tool. Without `run` it is only described: its calls are the caller's to answer.
struct Tool {
  ToolSpec spec;
  std::function<std::string(const OrderedJson& arguments)> run = {};
};

// A list of specifications, for UserInput::tools.
OrderedJson tools_json(const std::vector<ToolSpec>& specs);
// From such a list (of a file, for instance).
std::vector<ToolSpec> tool_specs(const OrderedJson& list, std::string_view where = "tools");

// The call's outcome by the tool of its name, arguments checked. Throws an Error when there is no
// such tool, the arguments do not fit, or the tool fails.
std::string execute(const ToolCall& call, const std::vector<Tool>& tools);
// The same for the model to read: what went wrong is the result, so that it can do better.
ToolResult result_of(const ToolCall& call, const std::vector<Tool>& tools);

// JSON as Python's json.dumps writes it, which is what models have seen: {"a": 1, "b": [2, 3]}.
std::string spaced_json(const OrderedJson& json);

}  // namespace mlxcpp

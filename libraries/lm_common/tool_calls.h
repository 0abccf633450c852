#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/ordered_json.h"

namespace mlxcpp {

// A function that the model asks to have called.
struct ToolCall {
  std::string name;
  OrderedJson arguments = OrderedJson::object();
  // What its result refers to; the model's own where its format has one, else given by ChatSession.
  std::string id = {};

  bool operator==(const ToolCall&) const = default;
};

// What came of a call, or what went wrong with it, as the model is told.
struct ToolResult {
  ToolCall call;
  std::string content;

  bool operator==(const ToolResult&) const = default;
};

// Finds the tool calls in an answer as its text arrives, in the format of one model family. One
// object for one answer.
class ToolCallProcessor {
 public:
  virtual ~ToolCallProcessor() = default;
  // Takes the next piece of text; returns what is to be shown of it, and appends the calls that it
  // completes.
  virtual std::string add(std::string_view text, std::vector<ToolCall>& calls) = 0;
  // The end of the answer: what was held back.
  virtual std::string finish(std::vector<ToolCall>& calls) = 0;
};

}  // namespace mlxcpp

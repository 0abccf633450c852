#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace mlxcpp {

// A function that the model asks to have called.
struct ToolCall {
  std::string name;
  Json arguments = Json::object();
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

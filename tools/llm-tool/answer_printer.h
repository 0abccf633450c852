#pragma once

#include <string>

#include "lm_common/generate.h"

namespace mlxcpp::tools {

// Writes an answer to standard output as it arrives: text as it is, reasoning before it (dim on a
// terminal that has colours), tool calls and their results on lines of their own.
class AnswerPrinter {
 public:
  // quiet: the answer alone, without reasoning and the results of calls.
  explicit AnswerPrinter(bool quiet);

  void show(const Generation& event);
  void finish();  // ends the last line

 private:
  void write(const std::string& text);
  void dim(bool on);
  void begin_line();

  bool quiet_, colour_, dim_ = false, thought_ = false, line_begun_ = false;
};

}  // namespace mlxcpp::tools

#pragma once

#include <optional>
#include <string>

namespace mlxcpp::tools {

// Lines that a person types: edited and remembered (libedit) on a terminal, plain otherwise. The
// history lies in XDG_STATE_HOME/mlxcpp/history. One at a time.
class LineEditor {
 public:
  LineEditor();
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  // None at the end of the input.
  std::optional<std::string> read(const std::string& prompt);

 private:
  bool interactive_;
  std::string history_file_;
};

}  // namespace mlxcpp::tools

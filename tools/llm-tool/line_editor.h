#pragma once

#include <memory>
#include <optional>
#include <string>

namespace mlxcpp::tools {

// Lines that a person types: edited and remembered (libedit) on a terminal, plain otherwise. The
// history lies in XDG_STATE_HOME/mlxcpp/history and is kept line by line. One at a time.
class LineEditor {
 public:
  LineEditor();
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  // None at the end of the input (Ctrl-D on an empty line); Ctrl-C drops what was typed and gives
  // an empty line.
  std::optional<std::string> read(const std::string& prompt);

 private:
  struct Editor;
  std::unique_ptr<Editor> editor_;  // none: not a terminal
};

}  // namespace mlxcpp::tools

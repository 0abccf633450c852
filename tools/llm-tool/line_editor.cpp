#include "llm-tool/line_editor.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include <editline/readline.h>
#include <unistd.h>

namespace mlxcpp::tools {
namespace {

constexpr int kHistoryLines = 1000;

std::filesystem::path history_path() {
  if (const char* state = std::getenv("XDG_STATE_HOME"); state && *state)
    return std::filesystem::path(state) / "mlxcpp" / "history";
  if (const char* home = std::getenv("HOME"); home && *home)
    return std::filesystem::path(home) / ".local/state/mlxcpp/history";
  return {};
}

}  // namespace

LineEditor::LineEditor() : interactive_(isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)) {
  if (!interactive_) return;
  using_history();
  stifle_history(kHistoryLines);
  const auto path = history_path();
  std::error_code ignored;  // a chat without a history file is still a chat
  std::filesystem::create_directories(path.parent_path(), ignored);
  history_file_ = path.string();
  if (!history_file_.empty()) read_history(history_file_.c_str());
}

LineEditor::~LineEditor() {
  if (!history_file_.empty()) write_history(history_file_.c_str());
}

std::optional<std::string> LineEditor::read(const std::string& prompt) {
  if (!interactive_) {
    std::string line;
    if (!std::getline(std::cin, line)) return std::nullopt;
    return line;
  }
  char* const typed = readline(prompt.c_str());
  if (!typed) return std::nullopt;
  std::string line(typed);
  std::free(typed);
  if (!line.empty()) add_history(line.c_str());
  return line;
}

}  // namespace mlxcpp::tools

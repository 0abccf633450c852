#include "llm-tool/line_editor.h"

#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <string_view>

#include <histedit.h>
#include <langinfo.h>
#include <unistd.h>

#include "core/error.h"

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

// Without this, letters beyond ASCII could not be typed.
void use_utf8() {
  std::setlocale(LC_CTYPE, "");
  if (std::strcmp(nl_langinfo(CODESET), "UTF-8") != 0) std::setlocale(LC_CTYPE, "C.UTF-8");
}

}  // namespace

struct LineEditor::Editor {
  EditLine* line = nullptr;
  ::History* history = nullptr;
  HistEvent event{};
  std::string prompt, history_file;
  bool interrupted = false;

  Editor() {
    use_utf8();
    line = el_init("llm-tool", stdin, stdout, stderr);
    history = history_init();
    if (!line || !history) throw Error("the line editor cannot be set up");
    ::history(history, &event, H_SETSIZE, kHistoryLines);
    el_set(line, EL_CLIENTDATA, this);
    el_set(line, EL_PROMPT, +[](EditLine* e) { return of(e).prompt.data(); });
    el_set(line, EL_EDITOR, "emacs");
    el_set(line, EL_HIST, ::history, history);
    el_set(line, EL_SIGNAL, 1);
    el_source(line, nullptr);  // ~/.editrc
    // Keys while a line is typed: Ctrl-C as a signal would end the chat.
    el_set(line, EL_SETTY, "-d", "-isig", nullptr);
    add_key(L"^C", L"drop-line", [](EditLine* e, wint_t) -> unsigned char {
      of(e).interrupted = true;
      return CC_EOF;
    });
    add_key(L"^Z", L"stop-program", [](EditLine*, wint_t) -> unsigned char {
      std::raise(SIGTSTP);
      return CC_REFRESH;
    });

    const auto path = history_path();
    if (path.empty()) return;
    std::error_code ignored;  // a chat without a history file is still a chat
    std::filesystem::create_directories(path.parent_path(), ignored);
    history_file = path.string();
    ::history(history, &event, H_LOAD, history_file.c_str());
  }
  ~Editor() {
    if (history) history_end(history);
    if (line) el_end(line);
  }
  Editor(const Editor&) = delete;
  Editor& operator=(const Editor&) = delete;

  // By wide strings, which libedit keeps as they are: of narrow ones it makes copies that it leaks.
  void add_key(const wchar_t* key, const wchar_t* name,
               unsigned char (*f)(EditLine*, wint_t)) const {
    el_wset(line, EL_ADDFN, name, name, f);
    el_wset(line, EL_BIND, key, name, nullptr);
  }

  static Editor& of(EditLine* e) {
    Editor* editor = nullptr;
    el_get(e, EL_CLIENTDATA, &editor);
    return *editor;
  }

  std::optional<std::string> read() {
    interrupted = false;
    int length = 0;
    const char* const typed = el_gets(line, &length);
    if (interrupted) {
      std::fputs("^C\n", stdout);
      std::fflush(stdout);
      return "";
    }
    if (!typed || length <= 0) return std::nullopt;
    std::string text(typed, static_cast<size_t>(length));
    while (text.ends_with('\n') || text.ends_with('\r')) text.pop_back();
    if (!text.empty()) remember(text);
    return text;
  }

  void remember(const std::string& text) {
    ::history(history, &event, H_ENTER, text.c_str());
    if (history_file.empty()) return;
    ::history(history, &event, H_SAVE, history_file.c_str());
    std::error_code ignored;
    using std::filesystem::perms;
    std::filesystem::permissions(history_file, perms::owner_read | perms::owner_write, ignored);
  }
};

LineEditor::LineEditor() {
  if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)) editor_ = std::make_unique<Editor>();
}

LineEditor::~LineEditor() = default;

std::optional<std::string> LineEditor::read(const std::string& prompt) {
  if (editor_) {
    editor_->prompt = prompt;
    return editor_->read();
  }
  std::string line;
  if (!std::getline(std::cin, line)) return std::nullopt;
  return line;
}

}  // namespace mlxcpp::tools

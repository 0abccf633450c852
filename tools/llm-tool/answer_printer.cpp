#include "llm-tool/answer_printer.h"

#include <utility>

#include "lm_common/tools/tool.h"
#include "support/program.h"
#include "support/terminal.h"

namespace mlxcpp::tools {

AnswerPrinter::AnswerPrinter(bool quiet) : quiet_(quiet), colour_(terminal_of(stdout).colour) {}

void AnswerPrinter::write(const std::string& text) {
  if (text.empty()) return;
  line_begun_ = text.back() != '\n';
  print(text);
}

void AnswerPrinter::dim(bool on) {
  if (colour_ && dim_ != on) print(on ? "\033[2m" : "\033[0m");
  dim_ = on;
}

void AnswerPrinter::begin_line() {
  if (line_begun_) write("\n");
}

void AnswerPrinter::show(const Generation& event) {
  if (const Reasoning* reasoning = event.reasoning(); reasoning && !quiet_) {
    dim(true);
    thought_ = true;
    write(reasoning->text);
  } else if (const std::string* chunk = event.chunk()) {
    dim(false);
    if (std::exchange(thought_, false)) {  // a blank line between thought and answer
      begin_line();
      write("\n");
    }
    write(*chunk);
  } else if (const ToolCall* call = event.tool_call()) {
    dim(false);
    thought_ = false;
    begin_line();
    write(spaced_json({{"name", call->name}, {"arguments", call->arguments}}) + "\n");
  } else if (const ToolResult* result = event.tool_result(); result && !quiet_) {
    dim(true);
    begin_line();
    write("= " + result->content + "\n");
    dim(false);
  }
}

void AnswerPrinter::finish() {
  dim(false);
  write("\n");
}

}  // namespace mlxcpp::tools

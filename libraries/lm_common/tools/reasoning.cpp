#include "lm_common/tools/reasoning.h"

#include <utility>

#include "lm_common/tools/scan.h"

namespace mlxcpp {

using namespace tool_text;

std::optional<ReasoningMarks> reasoning_marks_of(std::string_view chat_template) {
  for (const ReasoningMarks& marks :
       {ReasoningMarks{}, ReasoningMarks{"<|START_THINKING|>", "<|END_THINKING|>"},
        ReasoningMarks{"[THINK]", "[/THINK]"}})
    if (chat_template.find(marks.close) != std::string_view::npos) return marks;
  return std::nullopt;
}

ReasoningSplitter::ReasoningSplitter(bool begun, ReasoningMarks marks)
    : marks_(std::move(marks)), state_(begun ? State::thinking : State::start) {}

ReasoningSplitter::Parts ReasoningSplitter::add(std::string_view text) {
  held_ += text;
  return advance(false);
}

ReasoningSplitter::Parts ReasoningSplitter::finish() { return advance(true); }

ReasoningSplitter::Parts ReasoningSplitter::advance(bool end) {
  Parts out;
  if (state_ == State::start) {
    const size_t begin = skip_space(held_, 0);
    const Scan mark = literal(held_, begin, marks_.open);
    if (mark.found == Found::more && !end) return out;
    if (mark.found == Found::yes) held_.erase(0, mark.end);
    state_ = mark.found == Found::yes ? State::thinking : State::answer;
  }
  if (state_ == State::thinking) {
    size_t stop = held_.find(marks_.close);
    const bool closed = stop != std::string::npos;
    if (!closed) {
      // What may be the mark's beginning waits.
      stop = held_.size();
      for (size_t i = stop - std::min(stop, marks_.close.size()); i < held_.size() && !end; ++i)
        if (literal(held_, i, marks_.close).found == Found::more) {
          stop = i;
          break;
        }
    }
    out.reasoning = held_.substr(0, stop);
    held_.erase(0, closed ? stop + marks_.close.size() : stop);
    if (closed) state_ = State::between;
  }
  if (state_ == State::between) {
    held_.erase(0, skip_space(held_, 0));
    if (!held_.empty()) state_ = State::answer;
  }
  if (state_ == State::answer) out.answer = std::exchange(held_, {});
  return out;
}

}  // namespace mlxcpp

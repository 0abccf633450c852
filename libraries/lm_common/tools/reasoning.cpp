#include "lm_common/tools/reasoning.h"

#include <utility>

#include "lm_common/tools/scan.h"

namespace mlxcpp {

using namespace tool_text;

ReasoningSplitter::ReasoningSplitter(bool begun, std::string open, std::string close)
    : open_(std::move(open)),
      close_(std::move(close)),
      state_(begun ? State::thinking : State::start) {}

ReasoningSplitter::Parts ReasoningSplitter::add(std::string_view text) {
  held_ += text;
  return advance(false);
}

ReasoningSplitter::Parts ReasoningSplitter::finish() { return advance(true); }

ReasoningSplitter::Parts ReasoningSplitter::advance(bool end) {
  Parts out;
  if (state_ == State::start) {
    const size_t begin = skip_space(held_, 0);
    const Scan mark = literal(held_, begin, open_);
    if (mark.found == Found::more && !end) return out;
    if (mark.found == Found::yes) held_.erase(0, mark.end);
    state_ = mark.found == Found::yes ? State::thinking : State::answer;
  }
  if (state_ == State::thinking) {
    size_t stop = held_.find(close_);
    const bool closed = stop != std::string::npos;
    if (!closed) {
      // What may be the mark's beginning waits.
      stop = held_.size();
      for (size_t i = stop - std::min(stop, close_.size()); i < held_.size() && !end; ++i)
        if (literal(held_, i, close_).found == Found::more) {
          stop = i;
          break;
        }
    }
    out.reasoning = held_.substr(0, stop);
    held_.erase(0, closed ? stop + close_.size() : stop);
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

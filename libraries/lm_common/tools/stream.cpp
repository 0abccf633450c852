#include "lm_common/tools/stream.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace mlxcpp {

using tool_text::Found;

ToolCallStream::ToolCallStream(std::unique_ptr<const ToolCallFormat> format)
    : format_(std::move(format)), marks_(format_->marks()), may_start_(format_->at_start()) {}

std::string ToolCallStream::add(std::string_view text, std::vector<ToolCall>& calls) {
  held_ += text;
  // A call that is held back can only be completed by one of these.
  const bool decisive = text.find_first_of("})]>\n`") != std::string_view::npos;
  if (attempted_ > 0 && !decisive && held_.size() < 2 * attempted_) return {};
  return advance(false, calls);
}

std::string ToolCallStream::finish(std::vector<ToolCall>& calls) { return advance(true, calls); }

std::string ToolCallStream::advance(bool end, std::vector<ToolCall>& calls) {
  std::string shown;
  size_t at = 0;  // of held_, done so far
  attempted_ = 0;
  const std::string_view all = held_;
  while (at < all.size()) {
    const std::string_view rest = all.substr(at);
    // White space that may be nobody's is decided with what follows.
    const size_t space = may_start_ || after_call_ ? tool_text::skip_space(rest, 0) : 0;
    const std::string_view text = rest.substr(space);
    if (text.empty()) {
      if (!end) break;
      if (!after_call_) shown += rest;
      at = all.size();
      break;
    }
    bool begins = may_start_, may_begin = false;
    for (const std::string& mark : marks_) {
      begins = begins || text.starts_with(mark);
      may_begin = may_begin || std::string_view(mark).starts_with(text);
    }
    if (begins) {
      ToolCallMatch match = format_->match(text, end);
      if (match.found == Found::more) {
        attempted_ = all.size() - at;
        break;
      }
      if (match.found == Found::yes) {
        std::move(match.calls.begin(), match.calls.end(), std::back_inserter(calls));
        at += space + match.length;
        after_call_ = true;
        continue;
      }
    }
    if (may_begin && !end) break;
    shown += rest.substr(0, space + 1);
    at += space + 1;
    may_start_ = after_call_ = false;
  }
  held_.erase(0, at);
  return shown;
}

}  // namespace mlxcpp

#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace mlxcpp {

// The marks around what a model thinks aloud.
struct ReasoningMarks {
  std::string open = "<think>", close = "</think>";
};
// Those that a chat template speaks of; none when the model does not think aloud.
std::optional<ReasoningMarks> reasoning_marks_of(std::string_view chat_template);

// Splits what a model thinks aloud, <think>...</think>, from its answer, as the text arrives. White
// space around the two is nobody's. Thinking comes first or not at all: later marks are text.
class ReasoningSplitter {
 public:
  struct Parts {
    std::string reasoning, answer;
  };

  // begun: the prompt ends in the opening mark already, as some chat templates write it.
  explicit ReasoningSplitter(bool begun = false, ReasoningMarks marks = {});

  Parts add(std::string_view text);
  Parts finish();  // what was held back; reasoning that was never closed stays reasoning
  bool thinking() const { return state_ == State::thinking; }
  const ReasoningMarks& marks() const { return marks_; }

 private:
  enum class State { start, thinking, between, answer };
  Parts advance(bool end);

  ReasoningMarks marks_;
  std::string held_;
  State state_;
};

}  // namespace mlxcpp

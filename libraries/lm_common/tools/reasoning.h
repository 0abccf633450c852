#pragma once

#include <string>
#include <string_view>

namespace mlxcpp {

// Splits what a model thinks aloud, <think>...</think>, from its answer, as the text arrives. White
// space around the two is nobody's. Thinking comes first or not at all: later marks are text.
class ReasoningSplitter {
 public:
  struct Parts {
    std::string reasoning, answer;
  };

  // begun: the prompt ends in the opening mark already, as some chat templates write it.
  explicit ReasoningSplitter(bool begun = false, std::string open = "<think>",
                             std::string close = "</think>");

  Parts add(std::string_view text);
  Parts finish();  // what was held back; reasoning that was never closed stays reasoning
  bool thinking() const { return state_ == State::thinking; }

 private:
  enum class State { start, thinking, between, answer };
  Parts advance(bool end);

  std::string open_, close_, held_;
  State state_;
};

}  // namespace mlxcpp

#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mlxcpp {

// Ends a text at the first of some strings, also when it arrives in pieces: text that may be the
// beginning of a stop string is held back until it is clear. The outcome does not depend on how the
// text was cut into pieces.
class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  // The text that is now known to belong to the answer. Nothing more once found() is true.
  std::string add(std::string_view text);
  // A stop string has been met: it and all that follows is dropped.
  bool found() const { return found_; }
  // What was held back, at the end of the answer.
  std::string finish() { return std::exchange(held_, {}); }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool found_ = false;
};

}  // namespace mlxcpp

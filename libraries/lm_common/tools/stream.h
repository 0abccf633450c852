#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lm_common/tool_calls.h"
#include "lm_common/tools/scan.h"

namespace mlxcpp {

// What a format makes of a text that begins as its calls do.
struct ToolCallMatch {
  tool_text::Found found = tool_text::Found::no;
  size_t length = 0;  // bytes of the calls, their marks included
  std::vector<ToolCall> calls = {};
};

// How one family of models writes tool calls. A format is a pure function of the text; the stream
// does the waiting.
class ToolCallFormat {
 public:
  virtual ~ToolCallFormat() = default;
  // Marks that calls begin with, anywhere in the answer.
  virtual std::vector<std::string> marks() const = 0;
  // Every mark that may be a special token, which the text of an answer otherwise has not.
  virtual std::vector<std::string> tokens() const { return marks(); }
  // Calls may also begin, without a mark, where the answer does.
  virtual bool at_start() const { return false; }
  // `text` begins with a mark, or is the answer's beginning. `end`: nothing follows it, so that
  // what has no mark at its end is complete. Never says `more` then.
  virtual ToolCallMatch match(std::string_view text, bool end) const = 0;
};

// Finds a format's calls in an answer as it arrives. What is no call after all is shown as it is;
// white space between calls and after the last is not.
class ToolCallStream final : public ToolCallProcessor {
 public:
  explicit ToolCallStream(std::unique_ptr<const ToolCallFormat> format);
  std::string add(std::string_view text, std::vector<ToolCall>& calls) override;
  std::string finish(std::vector<ToolCall>& calls) override;

 private:
  std::string advance(bool end, std::vector<ToolCall>& calls);

  std::unique_ptr<const ToolCallFormat> format_;
  std::vector<std::string> marks_;
  std::string held_;
  size_t attempted_ = 0;  // bytes of held_ when it was last looked at without a decision
  bool may_start_;        // a call may begin without a mark: nothing has been shown
  bool after_call_ = false;
};

}  // namespace mlxcpp

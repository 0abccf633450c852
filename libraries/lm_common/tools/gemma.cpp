// <start_function_call>call:name{key:<escape>text<escape>,n:3,l:[1,2],o:{k:true}}<end_function_call>
// of FunctionGemma; of Gemma 3 what its guides teach: a ```tool_code block of Python calls, an
// answer that is [name(key="value"), ...], or one that is {"name": ..., "parameters": {...}}.
// Source: the model card of google/functiongemma-270m-it; ai.google.dev, "Function calling with
// Gemma".
#include "lm_common/tools/calls.h"
#include "lm_common/tools/formats.h"

namespace mlxcpp {
namespace {

using namespace tool_text;

constexpr std::string_view kOpen = "<start_function_call>", kClose = "<end_function_call>",
                           kEscape = "<escape>", kCode = "```tool_code", kCodeEnd = "```";
constexpr int kMaxDepth = 50;

// Values of FunctionGemma. `more` is for text that ends too early.
class Reader {
 public:
  Reader(std::string_view text, size_t at) : text_(text), at_(at) {}

  // {key:value,...}
  Found object(OrderedJson& out, int depth) {
    out = OrderedJson::object();
    ++at_;
    for (bool first = true;; first = false) {
      if (at_ == text_.size()) return Found::more;
      if (text_[at_] == '}') return ++at_, Found::yes;
      if (!first && text_[at_++] != ',') return Found::no;
      std::string key;
      if (const Found f = key_of(key); f != Found::yes) return f;
      if (const Found f = value(out[key], depth); f != Found::yes) return f;
    }
  }
  size_t at() const { return at_; }

 private:
  Found key_of(std::string& out) {
    if (const Scan s = literal(text_, at_, kEscape); s.found == Found::yes) {
      if (const Found f = escaped(out); f != Found::yes) return f;
      if (at_ == text_.size()) return Found::more;
      return text_[at_++] == ':' ? Found::yes : Found::no;
    }
    const size_t end = text_.find_first_of(":,{}[]", at_);
    if (end == std::string_view::npos) return Found::more;
    if (text_[end] != ':' || end == at_) return Found::no;
    out = text_.substr(at_, end - at_);
    at_ = end + 1;
    return Found::yes;
  }
  Found escaped(std::string& out) {
    const size_t begin = at_ + kEscape.size(), end = text_.find(kEscape, begin);
    if (end == std::string_view::npos) return Found::more;
    out = text_.substr(begin, end - begin);
    at_ = end + kEscape.size();
    return Found::yes;
  }
  Found value(OrderedJson& out, int depth) {
    if (at_ == text_.size()) return Found::more;
    if (depth > kMaxDepth) return Found::no;
    if (const Scan s = literal(text_, at_, kEscape); s.found != Found::no) {
      if (s.found == Found::more) return s.found;
      std::string text;
      const Found f = escaped(text);
      out = std::move(text);
      return f;
    }
    if (text_[at_] == '{') return object(out, depth + 1);
    if (text_[at_] == '[') return list(out, depth);
    const size_t end = text_.find_first_of(",{}[]", at_);
    if (end == std::string_view::npos) return Found::more;
    const std::string_view bare = text_.substr(at_, end - at_);
    at_ = end;
    auto j = json(bare);
    out = j ? std::move(*j) : OrderedJson(std::string(bare));  // a word without quotes
    return bare.empty() ? Found::no : Found::yes;
  }
  Found list(OrderedJson& out, int depth) {
    out = OrderedJson::array();
    ++at_;
    for (bool first = true;; first = false) {
      if (at_ == text_.size()) return Found::more;
      if (text_[at_] == ']') return ++at_, Found::yes;
      if (!first && text_[at_++] != ',') return Found::no;
      if (const Found f = value(out.emplace_back(), depth + 1); f != Found::yes) return f;
    }
  }

  std::string_view text_;
  size_t at_;
};

struct Gemma final : ToolCallFormat {
  std::vector<std::string> marks() const override {
    return {std::string(kOpen), std::string(kCode)};
  }
  std::vector<std::string> tokens() const override {
    return {std::string(kOpen), std::string(kClose), std::string(kEscape)};
  }

  bool at_start() const override { return true; }
  ToolCallMatch match(std::string_view text, bool end) const override {
    if (text.starts_with(kCode)) return code(text, end);
    if (text.starts_with(kOpen)) return function(text, end);
    if (text.starts_with("[")) return python_list(text, 0, end);
    if (text.starts_with("{")) return json_between(text, "", "", end);
    return {Found::no};
  }

 private:
  static ToolCallMatch function(std::string_view text, bool end) {
    ToolCallMatch undecided{end ? Found::no : Found::more};
    const Scan call = literal(text, kOpen.size(), "call:");
    if (call.found == Found::more) return undecided;
    if (call.found == Found::no) return {Found::no};
    const Scan name = identifier(text, call.end);
    if (name.found == Found::more) return undecided;
    if (name.found == Found::no || text[name.end] != '{') return {Found::no};
    ToolCall c{.name = std::string(text.substr(call.end, name.end - call.end))};
    Reader reader(text, name.end);
    const Found found = reader.object(c.arguments, 0);
    if (found == Found::more) return undecided;
    if (found == Found::no) return {Found::no};
    const Scan close = literal(text, reader.at(), kClose);
    if (close.found == Found::more && !end) return {Found::more};
    if (close.found == Found::no) return {Found::no};
    return {Found::yes, close.found == Found::yes ? close.end : text.size(), {std::move(c)}};
  }

  static ToolCallMatch code(std::string_view text, bool end) {
    const Scan close = outside_strings(text, kCode.size(), kCodeEnd);
    if (close.found != Found::yes) return {end ? Found::no : Found::more};
    auto calls =
        python_calls(text.substr(kCode.size(), close.end - kCodeEnd.size() - kCode.size()));
    if (!calls) return {Found::no};
    return {Found::yes, close.end, std::move(*calls)};
  }
};

}  // namespace

std::unique_ptr<const ToolCallFormat> gemma_format() { return std::make_unique<Gemma>(); }

}  // namespace mlxcpp

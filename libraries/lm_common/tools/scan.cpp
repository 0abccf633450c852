#include "lm_common/tools/scan.h"

#include <string>

namespace mlxcpp::tool_text {
namespace {

constexpr size_t kMaxDepth = 100;  // parsers recurse

// The end of a string literal whose quote is at `begin`.
Scan quoted(std::string_view text, size_t begin) {
  for (size_t i = begin + 1; i < text.size(); ++i) {
    if (text[i] == '\\')
      ++i;
    else if (text[i] == text[begin])
      return {Found::yes, i + 1};
  }
  return {Found::more};
}

}  // namespace

Scan literal(std::string_view text, size_t begin, std::string_view what) {
  const std::string_view rest = text.substr(std::min(begin, text.size()));
  if (rest.starts_with(what)) return {Found::yes, begin + what.size()};
  return {what.starts_with(rest) ? Found::more : Found::no};
}

size_t skip_space(std::string_view text, size_t begin) {
  while (begin < text.size() &&
         (text[begin] == ' ' || text[begin] == '\n' || text[begin] == '\r' || text[begin] == '\t'))
    ++begin;
  return begin;
}

Scan identifier(std::string_view text, size_t begin) {
  size_t i = begin;
  const auto part = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  };
  while (i < text.size() && part(text[i])) ++i;
  if (i == text.size()) return {Found::more};
  return {i > begin ? Found::yes : Found::no, i};
}

Scan bracketed(std::string_view text, size_t begin, bool single_quotes) {
  std::string closing;
  for (size_t i = begin; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"' || (c == '\'' && single_quotes)) {
      const Scan s = quoted(text, i);
      if (s.found != Found::yes) return s;
      i = s.end - 1;
    } else if (c == '{' || c == '[' || c == '(') {
      closing.push_back(c == '{' ? '}' : c == '[' ? ']' : ')');
      if (closing.size() > kMaxDepth) return {Found::no};
    } else if (c == '}' || c == ']' || c == ')') {
      if (closing.empty() || closing.back() != c) return {Found::no};
      closing.pop_back();
      if (closing.empty()) return {Found::yes, i + 1};
    }
    if (closing.empty()) return {Found::no};  // began with no bracket
  }
  return {Found::more};
}

Scan outside_strings(std::string_view text, size_t begin, std::string_view what) {
  for (size_t i = begin; i < text.size(); ++i) {
    if (text.substr(i).starts_with(what)) return {Found::yes, i + what.size()};
    if (what.starts_with(text.substr(i))) return {Found::more};
    if (text[i] == '#') {
      i = text.find('\n', i);
      if (i == std::string_view::npos) return {Found::more};
    } else if (text[i] == '"' || text[i] == '\'') {
      const Scan s = quoted(text, i);
      if (s.found != Found::yes) return s;
      i = s.end - 1;
    }
  }
  return {Found::more};
}

}  // namespace mlxcpp::tool_text

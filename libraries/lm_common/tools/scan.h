// Reading of tool calls whose text is still arriving. Every function looks at a beginning of the
// whole text, and what it says of a beginning holds for the whole: so it does not matter how the
// text was cut.
#pragma once

#include <cstddef>
#include <string_view>

namespace mlxcpp::tool_text {

enum class Found { yes, more, no };  // more: the text so far may yet become one

struct Scan {
  Found found = Found::no;
  size_t end = 0;  // where the thing ends, if it was found
};

// `what` at `begin`.
Scan literal(std::string_view text, size_t begin, std::string_view what);
// The first place from `begin` on that is no blank or newline.
size_t skip_space(std::string_view text, size_t begin);
// Letters, digits, and "_-." ; `more` while the text ends in it.
Scan identifier(std::string_view text, size_t begin);
// An object or list with its strings: up to the bracket that closes the one at `begin`. Strings in
// double quotes; in single ones, too, for Python.
Scan bracketed(std::string_view text, size_t begin, bool single_quotes = false);
// The first `what` from `begin` on that stands in no Python string or comment.
Scan outside_strings(std::string_view text, size_t begin, std::string_view what);

}  // namespace mlxcpp::tool_text

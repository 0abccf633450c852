#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mlxcpp {

// Of `names`, those most like a misspelt one, best first (edit distance, letter case apart); only
// what could have been meant, so maybe none.
std::vector<std::string> nearest_names(std::string_view name, const std::vector<std::string>& names,
                                       size_t count = 3);

// "; did you mean 'a', 'b'?", or nothing: the end of an error message.
std::string did_you_mean(std::string_view name, const std::vector<std::string>& names);

}  // namespace mlxcpp

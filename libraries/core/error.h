#pragma once

#include <stdexcept>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace mlxcpp {

// The one exception type of the libraries, for faults of input: its text says in one line what was
// expected, what was found, where (file, key path, option), and what to do. Our own bugs are
// asserts.
class Error : public std::runtime_error {
 public:
  template <class... A>
  explicit Error(fmt::format_string<A...> pattern, A&&... args)
      : std::runtime_error(fmt::format(pattern, std::forward<A>(args)...)) {}
};

}  // namespace mlxcpp

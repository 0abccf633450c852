#pragma once

#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace mlxcpp::log {

enum class Level { error, warning, info, debug };

// The level in force: MLXCPP_LOG=error|warning|info|debug, read once; warning when unset.
Level level();
inline bool enabled(Level l) { return l <= level(); }

// One whole line to stderr, from any thread.
void write(Level l, std::string_view text);

template <class... A>
void warning(fmt::format_string<A...> pattern, A&&... args) {
  if (enabled(Level::warning))
    write(Level::warning, fmt::format(pattern, std::forward<A>(args)...));
}
template <class... A>
void info(fmt::format_string<A...> pattern, A&&... args) {
  if (enabled(Level::info)) write(Level::info, fmt::format(pattern, std::forward<A>(args)...));
}
template <class... A>
void debug(fmt::format_string<A...> pattern, A&&... args) {
  if (enabled(Level::debug)) write(Level::debug, fmt::format(pattern, std::forward<A>(args)...));
}

}  // namespace mlxcpp::log

#include "core/log.h"

#include <cstdio>
#include <cstdlib>
#include <string>

namespace mlxcpp::log {

namespace {
constexpr const char* kNames[] = {"error", "warning", "info", "debug"};
}

Level level() {
  static const Level level = [] {
    const char* text = std::getenv("MLXCPP_LOG");
    const std::string_view name = text ? text : "";
    for (int i = 0; i < 4; ++i)
      if (name == kNames[i]) return static_cast<Level>(i);
    // No exception: who logs first may be unable to take one.
    if (!name.empty())
      write(Level::warning,
            fmt::format("MLXCPP_LOG: expected error, warning, info or debug, found '{}'", name));
    return Level::warning;
  }();
  return level;
}

void write(Level l, std::string_view text) {
  const std::string line = fmt::format("{}: {}\n", kNames[static_cast<int>(l)], text);
  std::fwrite(line.data(), 1, line.size(), stderr);  // one call: lines of two threads do not mix
}

}  // namespace mlxcpp::log

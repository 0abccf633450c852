#include "core/log.h"

#include <cstdio>
#include <cstdlib>
#include <string>

namespace mlxcpp::log {

Level level() {
  static const Level level = [] {
    const char* text = std::getenv("MLXCPP_LOG");
    const std::string_view name = text ? text : "";
    if (name == "error") return Level::error;
    if (name == "info") return Level::info;
    if (name == "debug") return Level::debug;
    return Level::warning;
  }();
  return level;
}

void write(Level l, std::string_view text) {
  static constexpr const char* kNames[] = {"error", "warning", "info", "debug"};
  const std::string line = fmt::format("{}: {}\n", kNames[static_cast<int>(l)], text);
  std::fwrite(line.data(), 1, line.size(), stderr);  // one call: lines of two threads do not mix
}

}  // namespace mlxcpp::log

#include "lm_common/stop_strings.h"

#include <algorithm>

namespace mlxcpp {
namespace {

// Length of the longest end of `text` with which `stop` begins, `stop` itself apart.
size_t overlap(std::string_view text, std::string_view stop) {
  for (size_t n = std::min(text.size(), stop.size() - 1); n > 0; --n)
    if (text.substr(text.size() - n) == stop.substr(0, n)) return n;
  return 0;
}

}  // namespace

std::string StopStrings::add(std::string_view text) {
  if (found_) return {};
  held_ += text;
  // The one that is complete first wins; of two that end together, the longer.
  size_t first_end = std::string::npos, cut = 0;
  for (const std::string& stop : stops_) {
    const size_t at = held_.find(stop);
    if (at == std::string::npos) continue;
    const size_t end = at + stop.size();
    if (end < first_end || (end == first_end && at < cut)) {
      first_end = end;
      cut = at;
    }
  }
  if (first_end != std::string::npos) {
    found_ = true;
    std::string out = held_.substr(0, cut);
    held_.clear();
    return out;
  }
  size_t keep = 0;
  for (const std::string& stop : stops_) keep = std::max(keep, overlap(held_, stop));
  std::string out = held_.substr(0, held_.size() - keep);
  held_.erase(0, out.size());
  return out;
}

}  // namespace mlxcpp

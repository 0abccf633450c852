#include "lm_common/lm_input.h"

#include <algorithm>

#include "core/error.h"

namespace mlxcpp {

void place_media(LMInput& input) {
  std::map<int, size_t> at;  // where to look on for each placeholder
  for (Medium& m : input.media) {
    size_t& next = at[m.placeholder];
    size_t found = 0;
    for (; next < input.tokens.size() && found < m.count; ++next) {
      if (input.tokens[next] != m.placeholder) continue;
      if (found++ == 0) m.begin = next;
      m.end = next + 1;
    }
    if (found < m.count)
      throw Error("the prompt has too few placeholders for its media: expected {} more of token {}",
                  m.count - found, m.placeholder);
  }
  for (const auto& [placeholder, next] : at)
    if (std::find(input.tokens.begin() + static_cast<std::ptrdiff_t>(next), input.tokens.end(),
                  placeholder) != input.tokens.end())
      throw Error("the prompt has more placeholders (token {}) than its media fill", placeholder);
}

const mx::array* FeatureCache::find(const std::string& key) {
  const auto it = by_key_.find(key);
  if (it == by_key_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, it->second);
  ++hits_;
  return &it->second->second;
}

void FeatureCache::add(const std::string& key, mx::array features) {
  if (key.empty() || features.nbytes() > max_bytes_ || by_key_.contains(key)) return;
  bytes_ += features.nbytes();
  entries_.emplace_front(key, std::move(features));
  by_key_[key] = entries_.begin();
  while (bytes_ > max_bytes_) {
    bytes_ -= entries_.back().second.nbytes();
    by_key_.erase(entries_.back().first);
    entries_.pop_back();
  }
}

void FeatureCache::clear() {
  entries_.clear();
  by_key_.clear();
  bytes_ = 0;
}

size_t PreparedPrompt::step_end(size_t begin, size_t end) const {
  end = std::min(end, tokens.size());
  if (groups.empty() || end == tokens.size()) return end;
  const auto divided = [&](size_t i) { return groups[i] >= 0 && groups[i - 1] == groups[i]; };
  size_t earlier = end;  // before the group, unless the step begins with it
  while (earlier > begin && divided(earlier)) --earlier;
  if (earlier > begin) return earlier;
  while (end < tokens.size() && divided(end)) ++end;
  return end;
}

}  // namespace mlxcpp

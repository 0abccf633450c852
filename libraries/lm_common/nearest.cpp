#include "lm_common/nearest.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace mlxcpp {
namespace {

constexpr size_t kLongestName = 200;  // the cost is the product of two lengths

std::string lower(std::string_view text) {
  std::string out(text.substr(0, kLongestName));
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

// Levenshtein: insertions, deletions and substitutions.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, substituted}));
    }
  }
  return row.back();
}

}  // namespace

std::vector<std::string> nearest_names(std::string_view name, const std::vector<std::string>& names,
                                       size_t count) {
  const std::string wanted = lower(name);
  std::vector<std::pair<size_t, size_t>> ranked;  // distance, then place in `names`
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string c = lower(names[i]);
    size_t distance = edit_distance(wanted, c);
    // A part of the name is nearer than its length says: "phi" for "phi3", "1b" for a long id.
    if (!wanted.empty() && c.find(wanted) != std::string::npos)
      distance = std::min<size_t>(distance, 2);
    if (distance <= std::max<size_t>(2, wanted.size() / 2)) ranked.emplace_back(distance, i);
  }
  std::sort(ranked.begin(), ranked.end());
  std::vector<std::string> out;
  for (size_t i = 0; i < std::min(count, ranked.size()); ++i)
    out.push_back(names[ranked[i].second]);
  return out;
}

std::string did_you_mean(std::string_view name, const std::vector<std::string>& names) {
  const auto near = nearest_names(name, names);
  return near.empty() ? "" : fmt::format("; did you mean '{}'?", fmt::join(near, "', '"));
}

}  // namespace mlxcpp

#include "hub/gguf_files.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <optional>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"

namespace mlxcpp::hub {
namespace {

constexpr std::string_view kSuffix = ".gguf";
constexpr size_t kDigits = 5;

std::string upper(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return text;
}

bool alphanumeric(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; }

std::string file_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// NAME-00002-of-00003.gguf
struct SplitName {
  std::string name;  // with its folder
  size_t number = 0, count = 0;
};

std::optional<SplitName> split_name(const std::string& file) {
  const size_t tail = 2 * kDigits + 5 + kSuffix.size();  // "-00002-of-00003.gguf"
  if (file.size() <= tail || !file.ends_with(kSuffix)) return std::nullopt;
  const std::string text = file.substr(file.size() - tail, tail - kSuffix.size());
  const std::string number = text.substr(1, kDigits), count = text.substr(kDigits + 5);
  const auto digits = [](const std::string& s) {
    return std::all_of(s.begin(), s.end(), [](char c) { return c >= '0' && c <= '9'; });
  };
  if (text.front() != '-' || text.substr(kDigits + 1, 4) != "-of-" || !digits(number) ||
      !digits(count))
    return std::nullopt;
  return SplitName{file.substr(0, file.size() - tail), std::stoul(number), std::stoul(count)};
}

// `word` in `text`, not as a part of a longer word: Q4_K is not in "x-Q4_K_M".
bool has_word(const std::string& text, const std::string& word) {
  const auto joins = [](char c) { return alphanumeric(c) || c == '_'; };
  for (size_t at = text.find(word); at != text.npos; at = text.find(word, at + 1)) {
    const size_t end = at + word.size();
    if ((at == 0 || !joins(text[at - 1])) && (end == text.size() || !joins(text[end]))) return true;
  }
  return false;
}

}  // namespace

std::vector<GgufModel> find_gguf_models(const std::vector<std::string>& files) {
  std::map<std::string, GgufModel> models;
  for (const std::string& file : files) {
    if (!file.ends_with(kSuffix) || file_name(file).find("mmproj") != std::string::npos) continue;
    if (const auto split = split_name(file)) {
      GgufModel& model = models[fmt::format("{} of {}", split->name, split->count)];
      model.expected = split->count;
      model.parts.push_back(file);
    } else {
      models[file].parts.push_back(file);
    }
  }
  std::vector<GgufModel> list;
  for (auto& [name, model] : models) {
    std::sort(model.parts.begin(), model.parts.end());
    list.push_back(std::move(model));
  }
  return list;
}

std::vector<std::string> parts_of(const std::string& file, const std::vector<std::string>& files) {
  const auto split = split_name(file);
  if (!split) return {file};
  std::vector<std::string> parts;
  for (size_t i = 1; i <= split->count; ++i) {
    parts.push_back(fmt::format("{}-{:05}-of-{:05}{}", split->name, i, split->count, kSuffix));
    if (std::find(files.begin(), files.end(), parts.back()) == files.end())
      throw Error("{}: part {} of {} is missing", parts.back(), i, split->count);
  }
  return parts;
}

std::vector<std::string> choose_gguf(const std::vector<std::string>& files, const std::string& tag,
                                     const std::string& where) {
  std::vector<std::string> all, chosen;
  for (const GgufModel& model : find_gguf_models(files)) {
    all.push_back(file_name(model.parts.front()));
    if (tag.empty() || has_word(upper(all.back()), upper(tag)))
      chosen.push_back(model.parts.front());
  }
  if (all.empty()) throw Error("{}: no .gguf file there", where);
  if (chosen.size() != 1)
    throw Error("{}: {} .gguf models suit{}: choose one of {}", where,
                chosen.empty() ? "no" : std::to_string(chosen.size()),
                tag.empty() ? "" : fmt::format(" '{}'", tag),
                fmt::join(all.begin(), all.begin() + std::min<size_t>(all.size(), 20), ", "));
  return parts_of(chosen.front(), files);
}

}  // namespace mlxcpp::hub

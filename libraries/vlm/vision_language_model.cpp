#include "vlm/vision_language_model.h"
#include "kernels/linear.h"

#include <algorithm>

namespace mlxcpp::vlm {
namespace {

// Where each token's embedding comes from: a medium and its row, or (-1) the text.
struct Source {
  int medium = -1, row = 0;
};

std::vector<Source> sources(const LMInput& input) {
  std::vector<Source> from(input.tokens.size());
  for (size_t m = 0; m < input.media.size(); ++m) {
    const Medium& medium = input.media[m];
    int row = 0;
    for (size_t i = medium.begin; i < medium.end; ++i)
      if (input.tokens[i] == medium.placeholder) from[i] = {static_cast<int>(m), row++};
  }
  return from;
}

bool follows(const Source& a, const Source& b) {
  return a.medium == b.medium && (a.medium < 0 || b.row == a.row + 1);
}

mx::array rows(const mx::array& a, int begin, int end) {  // [rows, hidden]
  return mx::slice(a, {begin, 0}, {end, a.shape(1)});
}

}  // namespace

PreparedPrompt VisionLanguageModel::prepare(const LMInput& input, size_t cached,
                                            FeatureCache* features) const {
  PreparedPrompt prompt{
      .tokens = {input.tokens.begin() + static_cast<std::ptrdiff_t>(cached), input.tokens.end()}};
  arrange(input, cached, prompt);
  const auto seen = [&](const Medium& m) { return m.end <= cached; };
  if (std::all_of(input.media.begin(), input.media.end(), seen)) return prompt;

  std::vector<std::optional<mx::array>> encoded;
  for (const Medium& medium : input.media) {
    auto& mine = encoded.emplace_back();
    if (seen(medium)) continue;
    if (const mx::array* known = features ? features->find(medium.key) : nullptr) {
      mine = *known;
      continue;
    }
    {
      const kernels::AnyOrderScope scope;
      mine = encode(medium);
    }
    mine->eval();  // so that the towers' intermediates of one medium at a time are held
    if (mine->ndim() != 2 || mine->shape(0) != static_cast<int>(medium.count))
      throw Error("a medium fills {} places of the prompt, expected {}", mine->shape(0),
                  medium.count);
    if (features) features->add(medium.key, *mine);
  }

  const std::vector<Source> from = sources(input);
  std::vector<int> ids = prompt.tokens;  // placeholders may lie beyond the vocabulary
  for (size_t i = 0; i < ids.size(); ++i)
    if (from[cached + i].medium >= 0) ids[i] = 0;
  const int length = static_cast<int>(ids.size());
  const mx::array text = mx::squeeze(embed(mx::array(ids.data(), {1, length}, mx::int32)), 0);
  std::vector<mx::array> parts;
  for (int begin = 0; begin < length;) {
    int end = begin + 1;
    while (end < length && follows(from[cached + end - 1], from[cached + end])) ++end;
    const Source& s = from[cached + begin];
    parts.push_back(s.medium < 0 ? rows(text, begin, end)
                                 : mx::astype(rows(*encoded[static_cast<size_t>(s.medium)], s.row,
                                                   s.row + end - begin),
                                              text.dtype()));
    begin = end;
  }
  prompt.embeddings = mx::expand_dims(mx::concatenate(std::move(parts), 0), 0);
  prompt.embeddings->eval();
  return prompt;
}

void VisionLanguageModel::arrange(const LMInput&, size_t, PreparedPrompt&) const {}

nn::Weights VisionLanguageModel::sanitize(nn::Weights weights) const {
  constexpr std::string_view kText = "language_model.";
  const Prefixes known = prefixes();
  nn::Weights text, towers;
  for (auto& [published, w] : weights) {
    std::string name = published;
    for (const auto& [from, to] : known)
      if (name.starts_with(from)) {
        name = std::string(to) + name.substr(from.size());
        break;
      }
    if (name.starts_with(kText))
      text.emplace(name.substr(kText.size()), w);
    else
      towers.emplace(std::move(name), w);
  }
  nn::Weights out = sanitize_towers(std::move(towers));
  for (auto& [name, w] : language_model->sanitize(std::move(text)))
    out.emplace(std::string(kText) + name, w);
  return out;
}

std::vector<int> groups_of_runs(const std::vector<int>& tokens, int placeholder) {
  std::vector<int> groups(tokens.size(), -1);
  int group = -1;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] != placeholder) continue;
    if (i == 0 || tokens[i - 1] != placeholder) ++group;
    groups[i] = group;
  }
  return groups;
}

const mx::array& value_of(const Medium& medium, const char* name, size_t axes) {
  const auto it = medium.values.find(name);
  if (it == medium.values.end()) throw Error("the medium has no '{}' for this model", name);
  if (it->second.ndim() != axes)
    throw Error("'{}' of the medium has {} axes, expected {}", name, it->second.ndim(), axes);
  return it->second;
}

}  // namespace mlxcpp::vlm

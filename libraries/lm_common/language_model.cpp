#include "lm_common/language_model.h"

#include <memory>

#include "lm_common/kv_cache/step_cache.h"

namespace mlxcpp {
namespace {

// bool [n, n]: later tokens of the step that belong to a token's own group.
std::optional<mx::array> seen_ahead(const std::vector<int>& groups, size_t begin, size_t end) {
  const size_t n = end - begin;
  std::vector<uint8_t> seen(n * n, 0);
  bool any = false;
  for (size_t q = 0; q < n; ++q) {
    const int group = groups[begin + q];
    if (group < 0) continue;
    for (size_t k = q + 1; k < n; ++k)
      if (groups[begin + k] == group) seen[q * n + k] = any = true;
  }
  if (!any) return std::nullopt;
  const auto side = static_cast<int>(n);
  return mx::astype(mx::array(seen.data(), {side, side}, mx::uint8), mx::bool_);
}

}  // namespace

mx::array LanguageModel::hidden_from(const mx::array&, const mx::array&, Caches&) const {
  throw Error("{} computes from token ids only", type_name());
}

PreparedPrompt LanguageModel::prepare(const LMInput& input, size_t cached, FeatureCache*) const {
  if (!input.media.empty())
    throw Error("this model takes text only, found {} pictures, films or sounds in the prompt",
                input.media.size());
  return {
      .tokens = {input.tokens.begin() + static_cast<std::ptrdiff_t>(cached), input.tokens.end()}};
}

// No medium is divided: its tokens may see each other.
size_t LanguageModel::reusable(const LMInput& input, size_t common) const {
  for (bool moved = true; moved;) {
    moved = false;
    for (const Medium& m : input.media)
      if (m.begin < common && common < m.end) {
        common = m.begin;
        moved = true;
      }
  }
  return common;
}

mx::array prompt_step(const LanguageModel& model, const PreparedPrompt& prompt, size_t begin,
                      size_t end, Caches& caches) {
  const int from = static_cast<int>(begin), to = static_cast<int>(end);
  const auto compute = [&](Caches& with) {
    const mx::array ids(prompt.tokens.data() + begin, {1, to - from}, mx::int32);
    if (!prompt.embeddings) return model.hidden(ids, with);
    const mx::array& e = *prompt.embeddings;
    return model.hidden_from(mx::slice(e, {0, from, 0}, {1, to, e.shape(2)}), ids, with);
  };
  auto step = std::make_shared<StepCache::Step>();
  if (prompt.positions) step->positions = mx::slice(*prompt.positions, {0, 0, from}, {3, 1, to});
  if (!prompt.groups.empty()) step->ahead = seen_ahead(prompt.groups, begin, end);
  if (!step->positions && !step->ahead) return compute(caches);
  if (caches.empty()) throw Error("a prompt with media is computed with caches");
  Caches wrapped = StepCache::wrap(caches, step);
  return compute(wrapped);
}

}  // namespace mlxcpp

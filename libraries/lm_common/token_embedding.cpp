#include "lm_common/token_embedding.h"

#include <algorithm>

namespace mlxcpp {

const nn::Embedding* token_embedding(const LanguageModel& model) {
  const nn::Embedding* first = nullptr;
  model.for_each_module([&](const std::string&, const nn::Module& m) {
    if (!first) first = dynamic_cast<const nn::Embedding*>(&m);
  });
  return first;
}

std::optional<int> vocab_size(const LanguageModel& model) {
  const nn::Embedding* embedding = token_embedding(model);
  return embedding ? std::optional(embedding->count()) : std::nullopt;
}

void check_ids(std::string_view what, std::span<const int> ids, std::optional<int> vocab_size) {
  if (ids.empty()) return;
  const auto [low, high] = std::minmax_element(ids.begin(), ids.end());
  if (*low < 0) throw Error("{} has the token id {}, which cannot be", what, *low);
  if (vocab_size && *high >= *vocab_size)
    throw Error(
        "{} has the token id {}, but the model's vocabulary ends at {}: tokenizer and model do "
        "not belong together",
        what, *high, *vocab_size - 1);
}

}  // namespace mlxcpp

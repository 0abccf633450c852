#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "lm_common/language_model.h"
#include "nn/embedding.h"

namespace mlxcpp {

// The layer that makes vectors of token ids, quantised and adapted ones included: the first
// embedding of the tree, as a language model comes before its towers and begins with it. Null: the
// model has none.
const nn::Embedding* token_embedding(const LanguageModel& model);

// Rows of that layer; ids from there on would be read from beyond it.
std::optional<int> vocab_size(const LanguageModel& model);

// Error, which begins with `what` ("the prompt"), for an id that is negative or `vocab_size` or
// more.
void check_ids(std::string_view what, std::span<const int> ids, std::optional<int> vocab_size);

}  // namespace mlxcpp

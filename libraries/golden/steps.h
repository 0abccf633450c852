#pragma once

#include "golden/fixture.h"
#include "lm_common/language_model.h"

// Forward passes as the fixtures were made with: by hand, without sampling.
namespace mlxcpp::golden {

// [B, L] -> [1, L]
mx::array row(const mx::array& ids, int b);
int int_at(const mx::array& a, int i);
float float_at(const mx::array& a, int i);
mx::array token_ids(const std::vector<int>& ids);  // -> int32 [1, L]

// Every row's logits [L, vocab] of ids [1, L], computed `chunk` tokens at a time.
mx::array all_logits(const LanguageModel& model, Caches& caches, const mx::array& ids, int chunk);
// The same, the last row only: [vocab].
mx::array prefill(const LanguageModel& model, Caches& caches, const mx::array& ids, int chunk);
// One token: [vocab].
mx::array step(const LanguageModel& model, Caches& caches, int token);

// A fixture's "prompt" and its greedy continuation through the cache: the prompt at once, and in
// chunks that divide neither it nor a window. Compares "prompt_last_logits" and "generated".
void compare_generation(const LanguageModel& model, References& want, Comparison& out);

}  // namespace mlxcpp::golden

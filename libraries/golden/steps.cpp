#include "golden/steps.h"

#include <algorithm>

#include "lm_common/position_switch.h"

namespace mlxcpp::golden {

mx::array row(const mx::array& ids, int b) { return mx::slice(ids, {b, 0}, {b + 1, ids.shape(1)}); }

int int_at(const mx::array& a, int i) {
  return mx::slice(mx::reshape(a, {-1}), {i}, {i + 1}).item<int>();
}

float float_at(const mx::array& a, int i) {
  return mx::slice(mx::reshape(a, {-1}), {i}, {i + 1}).item<float>();
}

mx::array token_ids(const std::vector<int>& ids) {
  return mx::array(ids.begin(), {1, static_cast<int>(ids.size())}, mx::int32);
}

mx::array all_logits(const LanguageModel& model, Caches& caches, const mx::array& ids, int chunk) {
  std::vector<mx::array> parts;
  const int length = ids.shape(1);
  expect(caches, length);
  for (int begin = 0; begin < length; begin += chunk) {
    parts.push_back(mx::squeeze(
        model(mx::slice(ids, {0, begin}, {1, std::min(length, begin + chunk)}), caches), 0));
    parts.back().eval();  // as generation does: one chunk is done before the next begins
  }
  return mx::concatenate(parts, 0);
}

mx::array prefill(const LanguageModel& model, Caches& caches, const mx::array& ids, int chunk) {
  return mx::take(all_logits(model, caches, ids, chunk), ids.shape(1) - 1, 0);
}

mx::array step(const LanguageModel& model, Caches& caches, int token) {
  return mx::squeeze(model(mx::array({token}, {1, 1}), caches), {0, 1});
}

void compare_generation(const LanguageModel& model, References& want, Comparison& out) {
  const auto& prompt = want.at("prompt");
  const auto& generated = want.at("generated");
  const auto& margins = want.at("generated_margin");
  for (const int chunk : {prompt.shape(1), 7}) {
    Caches caches = model.make_caches({});
    const std::string how = chunk == 7 ? ", prefill in chunks of 7" : "";
    auto next = prefill(model, caches, prompt, chunk);
    out.tensor("prompt_last_logits" + how, next, want.at("prompt_last_logits"));
    std::vector<int> text;
    for (int i = 0; i < prompt.shape(1); ++i) text.push_back(int_at(prompt, i));
    for (int i = 0; i < static_cast<int>(generated.size()); ++i) {
      const int token = int_at(generated, i);
      out.greedy_step(next, token, float_at(margins, i));
      text.push_back(token);
      if (i + 1 == static_cast<int>(generated.size())) break;
      if (positions_switch(model, text.size() - 1, text.size())) {
        caches = model.make_caches({});
        next = prefill(model, caches, token_ids(text), chunk);
      } else {
        next = step(model, caches, token);
      }
    }
    out.end_greedy("generated" + how);
  }
}

}  // namespace mlxcpp::golden

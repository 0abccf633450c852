// Models whose positions turn otherwise in long texts.
#pragma once

#include <optional>

#include "lm_common/language_model.h"

namespace mlxcpp {

// A base class of such models, beside LanguageModel. With LongRoPE, keys of a short text and of a
// long one do not belong together, nor does anything that layers computed from them: a text that
// grows beyond the length is computed again from its first token, as transformers does it
// (Phi3ForCausalLM.prepare_inputs_for_generation).
class PositionSwitch {
 public:
  virtual ~PositionSwitch() = default;
  // Texts up to this length have the first kind of positions; none: all have.
  virtual std::optional<int> switch_length() const = 0;
};

// Whether caches that were filled by a text of `before` tokens are of no use to one of `now`.
inline bool positions_switch(const LanguageModel& model, size_t before, size_t now) {
  const auto* own = dynamic_cast<const PositionSwitch*>(&model);
  const auto length = own ? own->switch_length() : std::nullopt;
  if (!length) return false;
  const auto n = static_cast<size_t>(*length);
  return (before > n) != (now > n);
}

}  // namespace mlxcpp

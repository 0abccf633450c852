#include "lm_common/generate_parameters.h"

#include <cmath>

#include "core/error.h"

namespace mlxcpp {
namespace {

void at_least(const char* option, int value, int least) {
  if (value < least) throw Error("{} must be at least {}, found {}", option, least, value);
}

void within(const char* option, float value, float low, float high) {
  if (!(value >= low && value <= high))  // a NaN is refused, too
    throw Error("{} must be between {} and {}, found {}", option, low, high, value);
}

void finite(const char* option, float value) {
  if (!std::isfinite(value)) throw Error("{} must be a finite number, found {}", option, value);
}

}  // namespace

void GenerateParameters::validate() const {
  if (max_tokens) at_least("max_tokens", *max_tokens, 0);
  if (!(temperature >= 0 && std::isfinite(temperature)))
    throw Error("temperature must be 0 or more, found {}", temperature);
  within("top_p", top_p, 0, 1);
  within("min_p", min_p, 0, 1);
  at_least("min_tokens_to_keep", min_tokens_to_keep, 1);
  within("xtc_probability", xtc_probability, 0, 1);
  within("xtc_threshold", xtc_threshold, 0, 0.5f);
  at_least("top_k", top_k, 0);

  for (const auto& [id, bias] : logit_bias) {
    at_least("logit_bias: token id", id, 0);
    if (std::isnan(bias)) throw Error("logit_bias of token {} is not a number", id);
  }
  if (repetition_penalty && !(*repetition_penalty > 0 && std::isfinite(*repetition_penalty)))
    throw Error("repetition_penalty must be more than 0 (1: off), found {}", *repetition_penalty);
  if (presence_penalty) finite("presence_penalty", *presence_penalty);
  if (frequency_penalty) finite("frequency_penalty", *frequency_penalty);
  at_least("repetition_context_size", repetition_context_size, 0);
  at_least("presence_context_size", presence_context_size, 0);
  at_least("frequency_context_size", frequency_context_size, 0);

  for (const std::string& text : stop)
    if (text.empty()) throw Error("stop: an empty text would end every answer at once");
  if (reasoning_budget) at_least("reasoning_budget", *reasoning_budget, 0);
  at_least("prefill_step", prefill_step, 1);
  if (max_kv_size) at_least("max_kv_size", *max_kv_size, 1);
  if (kv_bits && *kv_bits != 4 && *kv_bits != 8)
    throw Error("kv_bits must be 4 or 8, found {}", *kv_bits);
  if (kv_group_size != 32 && kv_group_size != 64 && kv_group_size != 128)
    throw Error("kv_group_size must be 32, 64 or 128, found {}", kv_group_size);
  at_least("quantized_kv_start", quantized_kv_start, 0);
}

CacheOptions GenerateParameters::cache_options() const {
  return {.max_size = max_kv_size,
          .bits = kv_bits,
          .group_size = kv_group_size,
          .quantized_start = quantized_kv_start};
}

}  // namespace mlxcpp

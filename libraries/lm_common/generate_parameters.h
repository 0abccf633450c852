#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "lm_common/language_model.h"

namespace mlxcpp {

// How an answer is made. The names are those of mlx_lm; the defaults those of mlx-swift-examples.
struct GenerateParameters {
  std::optional<int> max_tokens;  // none: until the model ends its answer
  uint64_t seed = 0;              // same seed, same prompt: same answer

  // Sampling, in this order (mlx_lm's make_sampler); see sampling.h for each.
  float temperature = 0.6f;      // 0: always the most likely token, and no filter below applies
  float top_p = 1.0f;            // 0 or 1: off
  float min_p = 0.0f;            // 0: off
  int min_tokens_to_keep = 1;    // of min_p
  float xtc_probability = 0.0f;  // 0: off
  float xtc_threshold = 0.1f;
  int top_k = 0;  // 0: off

  // Changes of the logits, before sampling.
  std::map<int, float> logit_bias;
  std::optional<float> repetition_penalty;
  int repetition_context_size = 20;
  std::optional<float> presence_penalty;
  int presence_context_size = 20;
  std::optional<float> frequency_penalty;
  int frequency_context_size = 20;

  bool logprobs = false;                // report each token's log-probability
  std::vector<std::string> stop;        // texts that end the answer and are not part of it
  std::optional<int> reasoning_budget;  // tokens to think aloud, then the thought is ended
  bool ignore_eos = false;              // measure and compare: go on past end-of-sequence tokens
  int prefill_step = 512;               // tokens of the prompt computed at a time
  std::optional<int> max_kv_size;  // bound of the KV cache; old entries but the first are dropped
  std::optional<int> kv_bits;      // 8 or 4: keys and values quantised
  int kv_group_size = 64;          // of the quantised cache: 32, 64 or 128
  int quantized_kv_start = 0;      // tokens kept in full precision before quantising begins

  // Throws an Error that names the option and its range.
  void validate() const;
  CacheOptions cache_options() const;
};

}  // namespace mlxcpp

// From logits to a token, in composable pieces. The maths is mlx_lm's sample_utils.py, checked
// against tests/golden/sampling. All arrays are [B, vocab]; nothing here waits for a result, so
// that a step can be built while the one before is being computed.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include <mlx/mlx.h>

#include "lm_common/generate_parameters.h"

namespace mlxcpp {

namespace mx = mlx::core;

// --- Filters: log-probabilities in, the same with those removed at -inf. At least one stays.

// Keeps the k most likely; all, when there are no more than k.
mx::array top_k(const mx::array& logprobs, int k);
// Keeps the most likely tokens that together hold probability p (nucleus sampling, arXiv
// 1904.09751). Wants normalised log-probabilities.
mx::array top_p(const mx::array& logprobs, float p);
// Keeps what is at least p times as likely as the most likely token (arXiv 2407.01082), and the
// `keep` most likely in any case.
mx::array min_p(const mx::array& logprobs, float p, int keep = 1);
// Excludes top choices: with the given probability, removes all tokens above the threshold but the
// least likely of them, so that answers leave the beaten path. `special` tokens are never removed.
mx::array xtc(const mx::array& logprobs, float probability, float threshold,
              std::span<const int> special, const mx::array& key);

// --- Processors: logits in, changed logits out. `tokens` int32 [B, n] is the history.

// Divides positive logits of tokens in the history and multiplies negative ones (arXiv 1909.05858).
mx::array repetition_penalty(const mx::array& logits, const mx::array& tokens, float penalty);
// Subtracts the penalty once from each token in the history.
mx::array presence_penalty(const mx::array& logits, const mx::array& tokens, float penalty);
// Subtracts the penalty once for each time a token stands in the history.
mx::array frequency_penalty(const mx::array& logits, const mx::array& tokens, float penalty);
mx::array add_logit_bias(const mx::array& logits, const std::map<int, float>& bias);

// log(softmax(logits)) in float32.
mx::array log_softmax(const mx::array& logits);

// The n-th of the seeds that follow from one (splitmix64): they have nothing in common with each
// other, nor with those of neighbouring seeds.
uint64_t mixed_seed(uint64_t seed, uint64_t n);

// Everything between a model's logits and the next token, with the state of one answer: the history
// that the penalties look at, and a random state of its own, so that answers made side by side are
// reproducible by their seed. Not thread-safe; belongs to the thread of its arrays.
class Sampler {
 public:
  // `special`: tokens that XTC never removes (line break and end of sequence in mlx_lm).
  explicit Sampler(const GenerateParameters& parameters, std::vector<int> special = {});

  // The prompt, before the first step. Only as much is kept as the penalties look at.
  void prompt(std::span<const int> tokens);

  struct Sample {
    mx::array token;                   // int32 [B]
    std::optional<mx::array> logprob;  // f32 [B], of that token; if the parameters ask for it
  };
  // logits [B, vocab], any float type. The sampled token joins the history.
  Sample operator()(const mx::array& logits);

  // The last token of the answer was chosen otherwise: it stands in the history instead.
  void replace_last(int token);

  // The parts of operator(), for tests and other ways of choosing a token: penalties and bias...
  mx::array process(const mx::array& logits) const;
  // ...and the filters, on normalised log-probabilities. XTC draws from this sampler's state.
  mx::array filter(const mx::array& logprobs);

 private:
  bool greedy() const;
  mx::array choose(const mx::array& x);  // [B, vocab] -> int32 [B]
  mx::array next_key();
  mx::array history(int context) const;

  GenerateParameters parameters_;
  std::vector<int> special_;
  int context_ = 0;                   // the longest history that a penalty wants
  std::optional<mx::array> history_;  // int32 [B, up to context_]
  uint64_t keys_ = 0;                 // handed out so far
};

}  // namespace mlxcpp

#include "lm_common/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/sampling.h"
#include "kernels/softmax.h"
#include "lm_common/sampling_kernels.h"

namespace mlxcpp {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kColdest = 1e-5f;  // below, logits divided by the temperature could overflow

mx::array removed_where(const mx::array& mask, const mx::array& logprobs) {
  return mx::where(mask, mx::array(-kInfinity, logprobs.dtype()), logprobs);
}

// Slice of the last axis.
mx::array last_axis(const mx::array& x, int from, int to) {
  mx::Shape low(x.ndim(), 0), high = x.shape();
  low.back() = from;
  high.back() = to;
  return mx::slice(x, low, high);
}

mx::array broadcast_rows(const mx::array& tokens, const mx::array& logits) {
  return tokens.shape(0) == logits.shape(0)
             ? tokens
             : mx::broadcast_to(tokens, {logits.shape(0), tokens.shape(-1)});
}

mx::array row(const std::vector<int>& values) {
  return mx::array(values.data(), {1, static_cast<int>(values.size())}, mx::int32);
}

}  // namespace

mx::array top_k(const mx::array& logprobs, int k) {
  if (k >= logprobs.shape(-1)) return logprobs;
  const kernels::TopK best = kernels::top_k(logprobs, k);
  return mx::put_along_axis(mx::full(logprobs.shape(), -kInfinity, logprobs.dtype()), best.indices,
                            best.values, -1);
}

mx::array top_p(const mx::array& logprobs, float p) { return nucleus(logprobs, p); }

mx::array min_p(const mx::array& logprobs, float p, int keep) {
  if (keep >= logprobs.shape(-1)) return logprobs;
  const mx::array least =
      mx::add(mx::max(logprobs, -1, true), mx::array(std::log(p), logprobs.dtype()));
  mx::array removed = mx::less(logprobs, least);
  if (keep > 1)
    removed =
        mx::put_along_axis(removed, kernels::top_k(logprobs, keep).indices, mx::array(false), -1);
  return removed_where(removed, logprobs);
}

mx::array xtc(const mx::array& logprobs, float probability, float threshold,
              std::span<const int> special, const mx::array& key) {
  const mx::array probs = kernels::softmax(logprobs);
  const mx::array above = mx::where(mx::greater(probs, mx::array(threshold)), probs,
                                    mx::array(kInfinity, probs.dtype()));
  mx::array removed = mx::greater(probs, mx::min(above, -1, true));
  std::vector<int> known;
  for (const int id : special)
    if (id >= 0 && id < logprobs.shape(-1)) known.push_back(id);
  if (!known.empty())
    removed =
        mx::put_along_axis(removed, broadcast_rows(row(known), logprobs), mx::array(false), -1);
  // One draw for each row.
  const mx::array draw = mx::random::uniform({logprobs.shape(0), 1}, mx::float32, key);
  const mx::array applies = mx::less_equal(draw, mx::array(probability));
  return removed_where(mx::logical_and(applies, removed), logprobs);
}

mx::array repetition_penalty(const mx::array& logits, const mx::array& tokens, float penalty) {
  const mx::array ids = broadcast_rows(tokens, logits);
  const mx::array chosen = mx::take_along_axis(logits, ids, -1);
  const mx::array factor(penalty, logits.dtype());
  const mx::array zero(0.0f, logits.dtype());
  const mx::array changed =
      mx::where(mx::less(chosen, zero), mx::multiply(chosen, factor), mx::divide(chosen, factor));
  return mx::put_along_axis(logits, ids, changed, -1);  // a token twice: the same value twice
}

mx::array presence_penalty(const mx::array& logits, const mx::array& tokens, float penalty) {
  const mx::array ids = broadcast_rows(tokens, logits);
  const mx::array changed =
      mx::subtract(mx::take_along_axis(logits, ids, -1), mx::array(penalty, logits.dtype()));
  return mx::put_along_axis(logits, ids, changed, -1);
}

mx::array frequency_penalty(const mx::array& logits, const mx::array& tokens, float penalty) {
  const mx::array ids = broadcast_rows(tokens, logits);
  return mx::scatter_add_axis(logits, ids, mx::full(ids.shape(), -penalty, logits.dtype()), -1);
}

mx::array add_logit_bias(const mx::array& logits, const std::map<int, float>& bias) {
  std::vector<int> ids;
  std::vector<float> values;
  for (const auto& [id, value] : bias) {
    if (id >= logits.shape(-1))
      throw Error("logit_bias: token id {} is outside the vocabulary of {}", id, logits.shape(-1));
    ids.push_back(id);
    values.push_back(value);
  }
  const mx::array at = broadcast_rows(row(ids), logits);
  const mx::array add = mx::array(values.data(), {1, static_cast<int>(values.size())});
  return mx::scatter_add_axis(logits, at,
                              mx::astype(mx::broadcast_to(add, at.shape()), logits.dtype()), -1);
}

mx::array log_softmax(const mx::array& logits) {
  return kernels::log_softmax(mx::astype(logits, mx::float32));
}

uint64_t mixed_seed(uint64_t seed, uint64_t n) {
  uint64_t z = seed + n * 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}

bool Sampler::greedy() const { return parameters_.temperature < kColdest; }

Sampler::Sampler(const GenerateParameters& parameters, std::vector<int> special)
    : parameters_(parameters), special_(std::move(special)) {
  if (parameters_.repetition_penalty)
    context_ = std::max(context_, parameters_.repetition_context_size);
  if (parameters_.presence_penalty)
    context_ = std::max(context_, parameters_.presence_context_size);
  if (parameters_.frequency_penalty)
    context_ = std::max(context_, parameters_.frequency_context_size);
}

void Sampler::prompt(std::span<const int> tokens) {
  const size_t n = std::min(tokens.size(), static_cast<size_t>(context_));
  history_.reset();
  if (n > 0)
    history_ = mx::array(tokens.data() + (tokens.size() - n), {1, static_cast<int>(n)}, mx::int32);
}

mx::array Sampler::history(int context) const {
  const int n = history_->shape(-1);
  return n <= context ? *history_ : last_axis(*history_, n - context, n);
}

mx::array Sampler::process(const mx::array& logits) const {
  mx::array x = mx::astype(logits, mx::float32);
  if (!parameters_.logit_bias.empty()) x = add_logit_bias(x, parameters_.logit_bias);
  if (!history_) return x;
  const auto apply = [&](auto penalise, const std::optional<float>& penalty, int context) {
    if (penalty && context > 0) x = penalise(x, history(context), *penalty);
  };
  apply(repetition_penalty, parameters_.repetition_penalty, parameters_.repetition_context_size);
  apply(presence_penalty, parameters_.presence_penalty, parameters_.presence_context_size);
  apply(frequency_penalty, parameters_.frequency_penalty, parameters_.frequency_context_size);
  return x;
}

mx::array Sampler::filter(const mx::array& logprobs) {
  const GenerateParameters& p = parameters_;
  mx::array x = logprobs;
  if (p.top_p > 0 && p.top_p < 1) x = top_p(x, p.top_p);
  if (p.min_p > 0) x = min_p(x, p.min_p, p.min_tokens_to_keep);
  if (p.xtc_probability > 0) x = xtc(x, p.xtc_probability, p.xtc_threshold, special_, next_key());
  if (p.top_k > 0) x = top_k(x, p.top_k);
  return x;
}

mx::array Sampler::next_key() { return mx::random::key(mixed_seed(parameters_.seed, ++keys_)); }

mx::array Sampler::choose(const mx::array& x) {
  if (greedy()) return mx::astype(kernels::argmax(x), mx::int32);
  const mx::array weights =
      kernels::softmax(mx::multiply(filter(x), mx::array(1.0f / parameters_.temperature)));
  return draw(weights, mx::random::uniform({x.shape(0), 1}, mx::float32, next_key()));
}

void Sampler::replace_last(int token) {
  if (!history_) return;
  const int n = history_->shape(-1);
  const mx::array last = mx::full({history_->shape(0), 1}, token, mx::int32);
  history_ = n > 1 ? mx::concatenate({last_axis(*history_, 0, n - 1), last}, -1) : last;
}

Sampler::Sample Sampler::operator()(const mx::array& logits) {
  mx::array x = process(logits);
  const bool nucleus = !greedy() && parameters_.top_p > 0 && parameters_.top_p < 1;
  if (nucleus || parameters_.logprobs) x = log_softmax(x);  // the others do not mind a shift

  const mx::array token = choose(x);
  Sample sample{token, std::nullopt};
  const mx::array column = mx::expand_dims(token, -1);
  if (parameters_.logprobs) sample.logprob = mx::squeeze(mx::take_along_axis(x, column, -1), -1);
  if (context_ > 0) {
    if (history_ && history_->shape(0) != token.shape(0))
      history_ = mx::broadcast_to(*history_, {token.shape(0), history_->shape(-1)});
    history_ = history_ ? mx::concatenate({*history_, column}, -1) : column;
    history_ = history(context_);
  }
  return sample;
}

}  // namespace mlxcpp

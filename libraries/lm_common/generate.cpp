#include "lm_common/generate.h"

#include "core/log.h"
#include "lm_common/memory.h"
#include "lm_common/position_switch.h"
#include "lm_common/token_embedding.h"

namespace mlxcpp {
namespace {

double seconds(std::chrono::steady_clock::duration d) {
  return std::chrono::duration<double>(d).count();
}

double rate(int count, double seconds) { return seconds > 0 ? count / seconds : 0; }

// Tokens that XTC never takes away: those that end an answer or a line.
std::vector<int> protected_tokens(const GenerateOptions& options) {
  std::vector<int> ids(options.eos.begin(), options.eos.end());
  if (options.tokenizer && options.parameters.xtc_probability > 0)
    for (const int id : options.tokenizer->encode("\n", false)) ids.push_back(id);
  return ids;
}

void check_prompt(const std::vector<int>& prompt, const GenerateOptions& options) {
  if (prompt.empty()) throw Error("the prompt is empty: there is nothing to continue");
  if (options.context_length && !options.parameters.max_kv_size &&
      prompt.size() >= static_cast<size_t>(std::max(0, *options.context_length)))
    throw Error(
        "the prompt has {} tokens, and the model's context holds {}, the answer's included: "
        "shorten it, or bound the KV cache with --max-kv-size",
        prompt.size(), *options.context_length);
  check_ids("the prompt", prompt, options.vocab_size);
}

}  // namespace

std::string_view name(StopReason reason) {
  switch (reason) {
    case StopReason::stop:
      return "stop";
    case StopReason::length:
      return "length";
    case StopReason::cancelled:
      return "cancelled";
  }
  return "";
}

double GenerationInfo::prompt_tokens_per_second() const {
  return rate(prompt_tokens - cached_tokens, prompt_seconds);
}

double GenerationInfo::tokens_per_second() const {
  // The first token belongs to the prompt's time.
  return rate(generation_tokens - 1, generation_seconds);
}

void GenerationInfo::append(const GenerationInfo& next) {
  prompt_tokens += next.prompt_tokens;
  cached_tokens += next.cached_tokens;
  generation_tokens += next.generation_tokens;
  reasoning_tokens += next.reasoning_tokens;
  prompt_seconds += next.prompt_seconds;
  generation_seconds += next.generation_seconds;
  peak_memory = next.peak_memory;
  peak_array_memory = next.peak_array_memory;
  stop_reason = next.stop_reason;
}

std::string GenerationInfo::summary() const {
  const std::string cached =
      cached_tokens > 0 ? fmt::format(" ({} from the cache)", cached_tokens) : "";
  const std::string prompt = first_token_seconds > 0
                                 ? fmt::format(", {:.1f} tokens/s, first token after {:.2f} s",
                                               prompt_tokens_per_second(), first_token_seconds)
                                 : "";
  const std::string generation =  // one token is the prompt's
      generation_tokens > 1
          ? fmt::format(", {:.1f} tokens/s, {:.2f} s", tokens_per_second(), generation_seconds)
          : "";
  return fmt::format(
      "Prompt:     {} tokens{}{}\nGeneration: {} tokens{}, ended by {}; peak memory {:.0f} MiB",
      prompt_tokens, cached, prompt, generation_tokens, generation, name(stop_reason),
      static_cast<double>(peak_memory) / (1 << 20));
}

Generator::Generator(const LanguageModel& model, Caches& caches, LMInput input, size_t cached,
                     GenerateOptions options)
    : model_(model),
      caches_(caches),
      options_(std::move(options)),
      sampler_((options_.parameters.validate(), options_.parameters), protected_tokens(options_)),
      stops_(options_.parameters.stop),
      input_(std::move(input)),
      cached_(cached),
      requested_(Clock::now()) {
  const auto& prompt = input_.tokens;
  check_prompt(prompt, options_);
  if (cached >= prompt.size())
    throw Error("the caches hold {} tokens: the prompt of {} must go beyond them", cached,
                prompt.size());
  if (options_.tokenizer)  // what it must not leave out, has_text() does
    detokenizer_.emplace(options_.tokenizer,
                         options_.skip_special_tokens && options_.kept_special_tokens.empty());
  sampler_.prompt(prompt);
  tokens_.assign(prompt.begin(), prompt.begin() + static_cast<std::ptrdiff_t>(cached));
  info_.prompt_tokens = static_cast<int>(prompt.size());
  info_.cached_tokens = static_cast<int>(cached);
  logged_end_ = cached;
  expect(caches_, static_cast<int>(prompt.size() - cached));
}

std::vector<int> Generator::tokens_said() const {
  std::vector<int> tokens = tokens_;
  if (last_) tokens.push_back(*last_);
  return tokens;
}

bool Generator::step(std::deque<Generation>& out) {
  if (phase_ == Phase::done) return false;
  if (begun_ == Clock::time_point()) logged_time_ = begun_ = Clock::now();
  const Phase phase = std::exchange(phase_, Phase::done);  // an exception ends the answer
  if (options_.stop.stop_requested()) {
    finish(StopReason::cancelled, out);
  } else if (phase == Phase::prefill) {
    prefill();
  } else {
    decode(out);
  }
  return phase_ != Phase::done;
}

void Generator::prefill() {
  if (!prepared_) {
    prepared_ = model_.prepare(input_, cached_, options_.features.get());
    for (const auto& cache : caches_) cache->shift_positions(prepared_->position_shift);
  }
  const std::vector<int>& prompt = input_.tokens;
  const size_t begin = tokens_.size() - cached_;
  const size_t end =
      prepared_->step_end(begin, begin + static_cast<size_t>(options_.parameters.prefill_step));
  tokens_.insert(tokens_.end(), prompt.begin() + static_cast<std::ptrdiff_t>(cached_ + begin),
                 prompt.begin() + static_cast<std::ptrdiff_t>(cached_ + end));
  const mx::array hidden = prompt_step(model_, *prepared_, begin, end, caches_);
  if (tokens_.size() == prompt.size()) {
    launch(hidden);
    limit_reasoning();
    prepared_.reset();
    phase_ = Phase::decode;
    return;
  }
  std::vector<mx::array> state;  // only what the step leaves in the caches is computed
  for (const auto& cache : caches_)
    for (const mx::array& a : cache->state()) state.push_back(a);
  mx::eval(state);
  mx::clear_cache();  // the next step's buffers are longer
  check_memory_limit();
  log_step("prefill", tokens_.size());
  phase_ = Phase::prefill;
}

void Generator::launch(mx::array hidden) {
  if (const int length = hidden.shape(1); length > 1)
    hidden = mx::slice(hidden, {0, length - 1, 0}, {1, length, hidden.shape(2)});
  const mx::array logits = model_.logits(hidden);  // [1, 1, vocab]
  next_ = sampler_(mx::reshape(logits, {1, logits.shape(-1)}));
  std::vector<mx::array> wanted{next_->token};
  if (next_->logprob) wanted.push_back(*next_->logprob);
  mx::async_eval(std::move(wanted));
}

// The time since the step before. Of a step that was computed ahead, it is what the reader waited.
void Generator::log_step(std::string_view what, size_t end) {
  if (!log::enabled(log::Level::debug)) return;
  const auto now = Clock::now();
  log::debug("{}: tokens {} to {}, {:.2f} ms", what, std::exchange(logged_end_, end), end,
             1e3 * seconds(now - std::exchange(logged_time_, now)));
}

bool Generator::full() const {
  const GenerateParameters& p = options_.parameters;
  if (p.max_tokens && info_.generation_tokens >= *p.max_tokens) return true;
  return options_.context_length && !p.max_kv_size &&
         info_.prompt_tokens + info_.generation_tokens >= *options_.context_length;
}

void Generator::decode(std::deque<Generation>& out) {
  if (full()) return finish(StopReason::length, out);
  Sampler::Sample now = *std::exchange(next_, std::nullopt);
  // The token after this one is begun before this one is waited for; not if it can be the last.
  ++info_.generation_tokens;
  const bool last = full();
  const bool anew = !last && positions_switch(model_, tokens_.size(), tokens_.size() + 1);
  if (!last && !anew) launch(model_.hidden(mx::expand_dims(now.token, 0), caches_));

  Token token{now.token.item<int>(), std::nullopt};
  if (now.logprob) token.logprob = now.logprob->item<float>();
  check_memory_limit();
  const auto time = Clock::now();
  if (info_.generation_tokens == 1) {
    first_ = time;
    info_.prompt_seconds = seconds(time - begun_);
    info_.first_token_seconds = seconds(time - requested_);
    mx::clear_cache();  // what the prompt needed is of no use to single tokens
  }
  info_.generation_seconds = seconds(time - first_);
  log_step(info_.generation_tokens == 1 ? "prefill and first token" : "decode",
           static_cast<size_t>(info_.prompt_tokens) + static_cast<size_t>(info_.generation_tokens));
  if (last || anew)
    last_ = token.id;
  else
    tokens_.push_back(token.id);

  if (!options_.parameters.ignore_eos && options_.eos.contains(token.id)) {
    --info_.generation_tokens;
    return finish(StopReason::stop, out);
  }
  out.push_back({token});
  if (detokenizer_ && has_text(token.id)) emit_text(detokenizer_->add(token.id), out);
  if (options_.reasoning && options_.reasoning->thinking()) ++info_.reasoning_tokens;
  limit_reasoning();
  if (stops_.found()) return finish(StopReason::stop, out);
  if (last) return finish(StopReason::length, out);
  phase_ = Phase::decode;
  if (!anew) return;
  // The text so far becomes the prompt of empty caches.
  input_ = LMInput(tokens_said());
  cached_ = 0;
  tokens_.clear();
  last_.reset();
  caches_ = model_.make_caches(options_.parameters.cache_options());
  expect(caches_, static_cast<int>(input_.tokens.size()));
  phase_ = Phase::prefill;
}

void Generator::emit_text(const std::string& text, std::deque<Generation>& out) {
  const std::string said = stops_.add(text);
  if (options_.reasoning)
    split(options_.reasoning->add(said), out);
  else
    show(said, out);
}

bool Generator::has_text(int token) const {
  return !options_.skip_special_tokens || options_.kept_special_tokens.empty() ||
         options_.kept_special_tokens.contains(token) || !options_.tokenizer->is_special(token);
}

// Ends a thought when its budget is used up: tokens that close it take the place of the sampled
// ones.
void Generator::limit_reasoning() {
  if (!options_.reasoning) return;
  const auto& budget = options_.parameters.reasoning_budget;
  if (options_.reasoning->thinking() && budget && !thought_ended_ &&
      info_.reasoning_tokens >= *budget) {
    const std::string closing = "\n" + options_.reasoning->marks().close + "\n\n";
    const std::vector<int> ids = options_.tokenizer->encode(closing, false);
    check_ids("the end of a thought", ids, options_.vocab_size);
    forced_.assign(ids.begin(), ids.end());
    thought_ended_ = true;
  }
  if (forced_.empty() || !next_) return;
  next_->token = mx::array({forced_.front()}, {1});
  next_->logprob.reset();
  sampler_.replace_last(forced_.front());
  forced_.pop_front();
}

void Generator::split(ReasoningSplitter::Parts parts, std::deque<Generation>& out) {
  if (!parts.reasoning.empty()) out.push_back({Reasoning{std::move(parts.reasoning)}});
  show(parts.answer, out);
}

void Generator::show(const std::string& text, std::deque<Generation>& out) {
  if (text.empty()) return;
  if (!options_.tool_calls) {
    out.push_back({text});
    return;
  }
  std::vector<ToolCall> calls;
  if (std::string plain = options_.tool_calls->add(text, calls); !plain.empty())
    out.push_back({std::move(plain)});
  for (ToolCall& call : calls) out.push_back({std::move(call)});
}

void Generator::finish(StopReason reason, std::deque<Generation>& out) {
  if (detokenizer_ && !stops_.found()) {
    emit_text(detokenizer_->finish(), out);
    if (stops_.found())
      reason = StopReason::stop;
    else if (options_.reasoning)
      split(options_.reasoning->add(stops_.finish()), out);
    else
      show(stops_.finish(), out);
  }
  if (options_.reasoning) split(options_.reasoning->finish(), out);
  if (options_.tool_calls) {
    std::vector<ToolCall> calls;
    if (std::string plain = options_.tool_calls->finish(calls); !plain.empty())
      out.push_back({std::move(plain)});
    for (ToolCall& call : calls) out.push_back({std::move(call)});
  }
  next_.reset();
  info_.stop_reason = reason;
  info_.peak_memory = peak_resident_memory();
  info_.peak_array_memory = mx::get_peak_memory();
  phase_ = Phase::done;
  log::debug("answer: {} prompt tokens ({} cached) in {:.3f} s, {} tokens in {:.3f} s, {}",
             info_.prompt_tokens, info_.cached_tokens, info_.prompt_seconds,
             info_.generation_tokens, info_.generation_seconds, name(reason));
  out.push_back({info_});
}

std::optional<Generation> GenerationStream::next() {
  while (events_.empty() && source_)
    if (!source_->step(events_)) source_.reset();
  if (events_.empty()) return std::nullopt;
  Generation event = std::move(events_.front());
  events_.pop_front();
  return event;
}

std::string GenerationStream::text() {
  std::string all;
  while (const auto event = next())
    if (const std::string* chunk = event->chunk()) all += *chunk;
  return all;
}

GenerationStream generate(const LanguageModel& model, Caches& caches, LMInput input,
                          GenerateOptions options) {
  class Here final : public GenerationStream::Source {
   public:
    explicit Here(Generator generator) : generator_(std::move(generator)) {}
    bool step(std::deque<Generation>& out) override { return generator_.step(out); }

   private:
    Generator generator_;
  };
  return GenerationStream(
      std::make_unique<Here>(Generator(model, caches, std::move(input), 0, std::move(options))));
}

}  // namespace mlxcpp

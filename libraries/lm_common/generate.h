// Answers as they are made. The loop is mlx_lm's generate.py: prefill in chunks, then one token
// ahead of the reader.
#pragma once

#include <chrono>
#include <deque>
#include <iterator>
#include <memory>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "lm_common/generate_parameters.h"
#include "lm_common/language_model.h"
#include "lm_common/sampling.h"
#include "lm_common/stop_strings.h"
#include "lm_common/tool_calls.h"
#include "lm_common/tools/reasoning.h"
#include "text/tokenizer.h"

namespace mlxcpp {

struct Token {
  int id = 0;
  std::optional<float> logprob;  // natural logarithm, after penalties; if asked for
};

enum class StopReason {
  stop,      // the model ended its answer, or a stop string was met
  length,    // max_tokens, or the model's context is full
  cancelled  // by the stop token
};
std::string_view name(StopReason reason);

// The account of an answer.
struct GenerationInfo {
  int prompt_tokens = 0;           // all of the prompt
  int cached_tokens = 0;           // of these, found in the caches and not computed again
  int generation_tokens = 0;       // given out; the end-of-sequence token is not among them
  int reasoning_tokens = 0;        // of these, thought aloud
  double prompt_seconds = 0;       // computing the prompt, up to the first token
  double first_token_seconds = 0;  // from the request to the first token, waiting included
  double generation_seconds = 0;   // from the first token to the last
  size_t peak_memory = 0;          // bytes of the process since it began, mapped weights and all
  size_t peak_array_memory = 0;    // bytes of MLX's arrays alone
  StopReason stop_reason = StopReason::stop;

  double prompt_tokens_per_second() const;
  double tokens_per_second() const;
  std::string summary() const;  // two lines for people
  // As if this answer and the next one, made in the same turn, were one.
  void append(const GenerationInfo& next);
};

// A piece of what the model thinks aloud, before its answer.
struct Reasoning {
  std::string text;
};

// One event of a stream: a piece of text, a token, a tool call, or (once, at the end) the account.
// A token comes before the text that it completes; text may take several tokens. Reasoning and tool
// calls are told apart where the options ask for it; results come of a ChatSession that has tools.
struct Generation {
  std::variant<std::string, Token, ToolCall, GenerationInfo, Reasoning, ToolResult> event;

  const std::string* chunk() const { return std::get_if<std::string>(&event); }
  const Token* token() const { return std::get_if<Token>(&event); }
  const ToolCall* tool_call() const { return std::get_if<ToolCall>(&event); }
  const GenerationInfo* info() const { return std::get_if<GenerationInfo>(&event); }
  const Reasoning* reasoning() const { return std::get_if<Reasoning>(&event); }
  const ToolResult* tool_result() const { return std::get_if<ToolResult>(&event); }
};

// What an answer needs besides model, caches and prompt.
struct GenerateOptions {
  GenerateParameters parameters = {};
  std::stop_token stop = {};
  std::shared_ptr<const Tokenizer> tokenizer = {};  // none: a stream of tokens without text
  bool skip_special_tokens = true;                  // in the text
  std::set<int> kept_special_tokens = {};           // but these, which are marks of a format
  std::set<int> eos = {};                           // ids that end the answer
  std::unique_ptr<ToolCallProcessor> tool_calls = {};
  std::optional<ReasoningSplitter> reasoning = {};  // none: what is thought aloud is text
  std::optional<int> context_length = {};           // positions the model was made for
  std::optional<int> vocab_size = {};
  std::shared_ptr<FeatureCache> features = {};  // of media seen before; none: encoded anew
};

// One answer in the making, a step at a time, so that several can take turns on one thread. Belongs
// to the thread of the model's arrays; model and caches must outlive it.
class Generator {
 public:
  // input: the whole prompt; the caches hold its first `cached` tokens. Throws an Error for a
  // prompt that is empty, too long for the model, or has ids outside the vocabulary.
  Generator(const LanguageModel& model, Caches& caches, LMInput input, size_t cached,
            GenerateOptions options);

  // Computes one chunk of the prompt, or reads one token; appends what came of it. False once all
  // is said: the account was the last event. After an exception the caches are not to be used on.
  bool step(std::deque<Generation>& out);

  // The tokens whose keys and values lie in the caches.
  const std::vector<int>& tokens() const { return tokens_; }
  // These, and the answer's last token, if that was not computed any more.
  std::vector<int> tokens_said() const;
  const LMInput& input() const { return input_; }

 private:
  enum class Phase { prefill, decode, done };
  using Clock = std::chrono::steady_clock;

  void prefill();
  void launch(mx::array hidden);  // [1, L, hidden]: sets next_
  void decode(std::deque<Generation>& out);
  void emit_text(const std::string& text, std::deque<Generation>& out);
  void split(ReasoningSplitter::Parts parts, std::deque<Generation>& out);
  void show(const std::string& text, std::deque<Generation>& out);
  bool has_text(int token) const;
  void limit_reasoning();
  void finish(StopReason reason, std::deque<Generation>& out);
  bool full() const;  // no token may follow
  void log_step(std::string_view what, size_t end);

  const LanguageModel& model_;
  Caches& caches_;
  GenerateOptions options_;
  Sampler sampler_;
  std::optional<StreamingDetokenizer> detokenizer_;
  StopStrings stops_;

  Phase phase_ = Phase::prefill;
  LMInput input_;
  size_t cached_;
  std::optional<PreparedPrompt> prepared_;  // while there is something to prefill
  std::vector<int> tokens_;
  std::optional<int> last_;
  std::optional<Sampler::Sample> next_;  // being computed
  std::deque<int> forced_;               // tokens that end a thought, instead of the sampled ones
  bool thought_ended_ = false;           // by them, once an answer
  GenerationInfo info_;
  Clock::time_point requested_, begun_, first_;
  // Of the step that the debug log had last: when and at which token it ended.
  Clock::time_point logged_time_;
  size_t logged_end_ = 0;
};

// A range over the events of an answer: `for (const Generation& g : stream)`. It pulls: each step
// is made when it is asked for (with the next token being computed meanwhile). To be read by one
// thread at a time.
class GenerationStream {
 public:
  // Where events come from: a Generator here, or one on another thread.
  class Source {
   public:
    virtual ~Source() = default;
    virtual bool step(std::deque<Generation>& out) = 0;  // as Generator::step
  };
  explicit GenerationStream(std::unique_ptr<Source> source) : source_(std::move(source)) {}

  std::optional<Generation> next();
  std::string text();  // reads to the end: all chunks

  class iterator {
   public:
    using value_type = Generation;
    using difference_type = std::ptrdiff_t;
    explicit iterator(GenerationStream* stream) : stream_(stream), now_(stream->next()) {}
    const Generation& operator*() const { return *now_; }
    const Generation* operator->() const { return &*now_; }
    iterator& operator++() {
      now_ = stream_->next();
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(std::default_sentinel_t) const { return !now_; }

   private:
    GenerationStream* stream_;
    std::optional<Generation> now_;
  };
  iterator begin() { return iterator(this); }
  std::default_sentinel_t end() const { return {}; }

 private:
  std::unique_ptr<Source> source_;  // none: at its end
  std::deque<Generation> events_;
};

// An answer made on this thread. Model and caches must outlive the stream.
GenerationStream generate(const LanguageModel& model, Caches& caches, LMInput input,
                          GenerateOptions options);

}  // namespace mlxcpp

#include "lm_common/chat_session.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <span>
#include <utility>

#include "core/error.h"
#include "core/log.h"
#include "lm_common/position_switch.h"

namespace mlxcpp {
namespace {

// What a session keeps on the container's thread.
struct Memory {
  Caches caches;
  CacheOptions cache_options;
  std::vector<int> tokens;    // whose keys and values the caches hold
  std::vector<int> said;      // these, and the answer's last one
  std::vector<Medium> media;  // that are among them
  // What was made of pictures and sounds, beyond what the caches hold of them.
  std::shared_ptr<FeatureCache> features = std::make_shared<FeatureCache>();
  std::optional<Generator> generator;  // of the answer in progress; refers to `caches`

  void forget() {
    generator.reset();
    caches.clear();
    tokens.clear();
    said.clear();
    media.clear();
  }
  // After the answer: what it left in the caches is known.
  void keep() {
    if (generator) {
      tokens = generator->tokens();
      said = generator->tokens_said();
      media = generator->input().media;
      for (Medium& m : media) m.values.clear();
    }
    generator.reset();
  }
};

bool same(const CacheOptions& a, const CacheOptions& b) {
  return a.max_size == b.max_size && a.bits == b.bits && a.group_size == b.group_size &&
         a.quantized_start == b.quantized_start;
}

// Takes back what the caches hold beyond the first `length` tokens; false when they cannot.
bool trim_to(Caches& caches, size_t held, size_t length) {
  const int excess = static_cast<int>(held - length);
  if (excess == 0) return true;
  const auto can = [](const auto& cache) { return cache->is_trimmable(); };
  if (!std::all_of(caches.begin(), caches.end(), can)) return false;
  return std::all_of(caches.begin(), caches.end(),
                     [&](const auto& cache) { return cache->trim(excess) == excess; });
}

// The prompt with the tokens that were said in place of what their text is encoded to: a model may
// say a text in other tokens than the tokenizer, and the caches hold the model's.
std::vector<int> with_said(const Tokenizer& tokenizer, const std::vector<int>& said,
                           std::vector<int> prompt) {
  const auto text_of_first = [&](size_t n) { return tokenizer.decode(std::span(prompt).first(n)); };
  if (said.empty() ||
      (said.size() <= prompt.size() && std::equal(said.begin(), said.end(), prompt.begin())))
    return prompt;
  const std::string text = tokenizer.decode(said);
  size_t low = 0, high = prompt.size();  // the longer a beginning, the longer its text
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    if (text_of_first(middle).size() < text.size())
      low = middle + 1;
    else
      high = middle;
  }
  if (text_of_first(low) != text) return prompt;
  std::vector<int> tokens = said;
  tokens.insert(tokens.end(), prompt.begin() + static_cast<std::ptrdiff_t>(low), prompt.end());
  return tokens;
}

// Makes the caches fit the prompt; how many of its tokens they then hold. At least the last one is
// left to compute, since the answer begins with its logits.
size_t reuse(Memory& memory, const LanguageModel& model, const CacheOptions& options,
             const LMInput& input) {
  const std::vector<int>& prompt = input.tokens;
  const auto& held = memory.tokens;
  const auto end = held.begin() + static_cast<std::ptrdiff_t>(std::min(held.size(), prompt.size()));
  size_t common =
      static_cast<size_t>(std::mismatch(held.begin(), end, prompt.begin()).first - held.begin());
  if (!prompt.empty()) common = std::min(common, prompt.size() - 1);
  // Placeholders are alike: what they stand for is not.
  for (size_t i = 0; i < std::max(memory.media.size(), input.media.size()); ++i) {
    const auto begin = [i](const auto& media) {
      return i < media.size() ? media[i].begin : SIZE_MAX;
    };
    if (i < memory.media.size() && i < input.media.size() &&
        begin(memory.media) == begin(input.media) && memory.media[i].key == input.media[i].key)
      continue;
    common = std::min({common, begin(memory.media), begin(input.media)});
  }
  common = model.reusable(input, common);
  if (common == 0 || positions_switch(model, held.size(), prompt.size()) ||
      !same(options, memory.cache_options) || !trim_to(memory.caches, held.size(), common)) {
    memory.forget();
    memory.caches = model.make_caches(options);
    memory.cache_options = options;
    return 0;
  }
  memory.tokens.resize(common);
  return common;
}

// The random numbers of each answer are others, all decided by the one seed. The first answer's are
// those of a lone prompt; the others' seeds are mixed twice, since the samplers mix once.
uint64_t seed_of_answer(uint64_t seed, uint64_t answer) {
  return answer == 0 ? seed : mixed_seed(~seed, answer);
}

}  // namespace

struct ChatSession::Conversation {
  std::shared_ptr<ModelContainer> container;
  ChatOptions options;
  std::shared_ptr<Memory> memory = std::make_shared<Memory>();
  uint64_t answers = 0;
  int calls = 0;  // that got an id here
  bool answering = false;

  // What lives on the container's thread dies there.
  ~Conversation() {
    container->perform([memory = std::move(memory)](ModelContext&) { memory->forget(); });
  }

  // Renders the conversation and makes memory->generator ready to answer it.
  void launch(const std::stop_token& stop) {
    Chat messages;
    if (!options.instructions.empty()) messages.push_back(chat::system(options.instructions));
    messages.insert(messages.end(), options.history.begin(), options.history.end());
    UserInput input(std::move(messages));
    std::vector<ToolSpec> specs;
    for (const Tool& tool : options.tools) specs.push_back(tool.spec);
    if (!specs.empty()) input.tools = tools_json(specs);
    input.additional_context = options.additional_context;
    input.media = options.media;
    GenerateParameters parameters = options.parameters;
    parameters.seed = seed_of_answer(parameters.seed, answers);
    container
        ->perform([&, memory = memory](ModelContext& context) {
          parameters.validate();
          LMInput prompt = context.prepare(input);
          if (prompt.media.empty() && memory->media.empty())
            prompt.tokens = with_said(*context.tokenizer, memory->said, std::move(prompt.tokens));
          const size_t cached = reuse(*memory, *context.model, parameters.cache_options(), prompt);
          GenerateOptions made = context.answer_options(prompt, std::move(specs), parameters, stop);
          made.features = memory->features;
          memory->generator.emplace(*context.model, memory->caches, std::move(prompt), cached,
                                    std::move(made));
        })
        .get();
    ++answers;
  }

  // Nine letters and digits, which some templates insist on.
  std::string new_call_id() { return fmt::format("call{:05}", ++calls % 100000); }

  bool can_run(const ToolCall& call) const {
    for (const Tool& tool : options.tools)
      if (tool.spec.name == call.name) return static_cast<bool>(tool.run);
    return true;  // there is no such tool: the model is told so
  }
};

// The stream of one answer: each step is one piece of work for the container.
class ChatSession::Answer final : public GenerationStream::Source {
 public:
  Answer(std::shared_ptr<Conversation> conversation, Chat before, std::stop_token stop)
      : conversation_(std::move(conversation)), before_(std::move(before)), stop_(std::move(stop)) {
    conversation_->answering = true;
  }
  ~Answer() override {
    if (!conversation_->answering) return;
    conversation_->container->perform(
        [memory = conversation_->memory](ModelContext&) { memory->keep(); });
    message_.tool_calls.clear();  // nobody answers them
    remember();
    conversation_->answering = false;
  }

  void launch() {
    try {
      conversation_->launch(stop_);
    } catch (...) {
      undo();
      throw;
    }
  }

  bool step(std::deque<Generation>& out) override {
    std::deque<Generation> events;
    try {
      const bool more = conversation_->container
                            ->perform([memory = conversation_->memory, &events](ModelContext&) {
                              const bool more = memory->generator->step(events);
                              if (!more) memory->keep();
                              return more;
                            })
                            .get();
      for (Generation& event : events) take(std::move(event), out);
      return more || end_of_round(out);
    } catch (...) {
      undo();
      throw;
    }
  }

  // As if the turn had not been.
  void undo() {
    conversation_->options.history = std::move(before_);
    conversation_->answering = false;
    conversation_->container->perform(
        [memory = conversation_->memory](ModelContext&) { memory->forget(); });
  }

 private:
  void take(Generation event, std::deque<Generation>& out) {
    if (const std::string* chunk = event.chunk()) message_.content += *chunk;
    if (const Reasoning* thought = event.reasoning()) message_.reasoning += thought->text;
    if (auto* call = std::get_if<ToolCall>(&event.event)) {
      if (call->id.empty()) call->id = conversation_->new_call_id();
      message_.tool_calls.push_back(*call);
    }
    if (const GenerationInfo* info = event.info()) {
      if (rounds_ == 0)
        info_ = *info;
      else
        info_.append(*info);
      return;  // it is the stream's last event
    }
    out.push_back(std::move(event));
  }

  void remember() {
    conversation_->options.history.push_back(std::exchange(message_, chat::assistant("")));
  }

  // The model has said its part; true when it goes on from the results of what it called.
  bool end_of_round(std::deque<Generation>& out) {
    Conversation& c = *conversation_;
    if (info_.stop_reason != StopReason::stop) message_.tool_calls.clear();
    const std::vector<ToolCall> calls = message_.tool_calls;
    remember();
    const bool goes_on =
        !calls.empty() && rounds_ < c.options.max_tool_rounds &&
        std::all_of(calls.begin(), calls.end(), [&](const auto& call) { return c.can_run(call); });
    if (goes_on) {
      for (const ToolCall& call : calls) {
        ToolResult result = result_of(call, c.options.tools);
        c.options.history.push_back(chat::tool(result));
        out.push_back({std::move(result)});
      }
      ++rounds_;
      if (!stop_.stop_requested()) {
        c.launch(stop_);
        return true;
      }
      info_.stop_reason = StopReason::cancelled;
    }
    out.push_back({info_});
    c.answering = false;
    return false;
  }

  std::shared_ptr<Conversation> conversation_;
  Chat before_;
  std::stop_token stop_;
  chat::Message message_ = chat::assistant("");  // in the making
  int rounds_ = 0;                               // of results, so far
  GenerationInfo info_;                          // of all parts
};

ChatSession::ChatSession(std::shared_ptr<ModelContainer> container)
    : ChatSession(std::move(container), ChatOptions()) {}

ChatSession::ChatSession(std::shared_ptr<ModelContainer> container, ChatOptions options)
    : conversation_(std::make_shared<Conversation>()) {
  conversation_->container = std::move(container);
  conversation_->options = std::move(options);
}
ChatSession::~ChatSession() = default;
ChatSession::ChatSession(ChatSession&&) noexcept = default;

void ChatSession::expect_silence() const {
  if (conversation_->answering)
    throw Error("this chat is answering: read its stream to the end, or drop it, before the next");
}

GenerationStream ChatSession::stream(Chat messages, std::stop_token stop) {
  expect_silence();
  Chat& history = conversation_->options.history;
  Chat before = history;
  history.insert(history.end(), std::make_move_iterator(messages.begin()),
                 std::make_move_iterator(messages.end()));
  return begin(std::move(before), std::move(stop));
}

GenerationStream ChatSession::stream(chat::Message message, std::stop_token stop) {
  return stream(Chat{std::move(message)}, std::move(stop));
}

GenerationStream ChatSession::stream(std::string text, std::stop_token stop) {
  return stream(chat::user(std::move(text)), std::move(stop));
}

std::string ChatSession::respond(std::string text, std::stop_token stop) {
  return stream(std::move(text), std::move(stop)).text();
}

GenerationStream ChatSession::again(std::stop_token stop) {
  expect_silence();
  Chat& history = conversation_->options.history;
  if (history.empty() || history.back().role != chat::Role::assistant)
    throw Error("there is no answer yet to make again");
  Chat before = history;
  // With it go the calls that it was made from, and their results.
  while (!history.empty() &&
         (history.back().role == chat::Role::assistant || history.back().role == chat::Role::tool))
    history.pop_back();
  return begin(std::move(before), std::move(stop));
}

GenerationStream ChatSession::begin(Chat before, std::stop_token stop) {
  auto answer = std::make_unique<Answer>(conversation_, std::move(before), std::move(stop));
  answer->launch();
  return GenerationStream(std::move(answer));
}

void ChatSession::drop_caches() {
  expect_silence();
  Conversation& c = *conversation_;
  c.container->perform([memory = c.memory](ModelContext&) { memory->forget(); });
}

void ChatSession::reset() {
  expect_silence();
  Conversation& c = *conversation_;
  c.options.history.clear();
  c.answers = 0;
  c.container->perform([memory = c.memory](ModelContext&) {
    memory->forget();
    memory->features->clear();
  });
}

const Chat& ChatSession::history() const { return conversation_->options.history; }
GenerateParameters& ChatSession::parameters() { return conversation_->options.parameters; }
std::string& ChatSession::instructions() { return conversation_->options.instructions; }

}  // namespace mlxcpp

// Conversations with tools and reasoning, with a model that says what a test wrote for it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lm_common/chat_session.h"
#include "lm_common/fake_model.h"
#include "lm_common/test_tokenizer.h"

namespace mlxcpp {
namespace {

using namespace mlxcpp::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Printable ASCII and the line break.
const std::string& ascii() {
  static const std::string all = [] {
    std::string s = "\n";
    for (char c = ' '; c <= '~'; ++c) s += c;
    return s;
  }();
  return all;
}

const std::vector<std::string> kMarks = {"<tool_call>", "</tool_call>", "<other>"};
constexpr int kVocab = 128;

// Writes turns as the model says them, so that a conversation only grows.
constexpr const char* kToolTemplate =
    "{% if tools %}<sys>{{ tools | tojson }}<eos>{% endif %}"
    "{% for m in messages %}"
    "{% if m.role == 'system' %}<sys>{% elif m.role == 'user' %}<user>"
    "{% elif m.role == 'tool' %}<user>{{ m.name }} {{ m.tool_call_id }} {% else %}<bot>{% endif %}"
    "{{ m.content }}"
    "{% for c in (m.tool_calls or []) %}<tool_call>\n"
    "{\"name\": \"{{ c.function.name }}\", \"arguments\": {{ c.function.arguments | tojson }}}"
    "\n</tool_call>{% endfor %}"
    "<eos>{% endfor %}{% if add_generation_prompt %}<bot>{% endif %}";

// Says its texts in turn, one an answer; each token is the text's next character or mark. Anything
// that stands in the place of a token it would have said is taken as said.
class Script final : public LanguageModel {
 public:
  Script(const std::shared_ptr<const Tokenizer>& tokenizer, const std::vector<std::string>& texts) {
    for (const std::string& text : texts) {
      answers_.push_back(tokenizer->encode(text, false));
      answers_.back().push_back(kEos);
    }
  }
  mx::array embed(const mx::array& ids) const override {
    return mx::zeros({ids.shape(0), ids.shape(1), 1});
  }
  mx::array hidden(const mx::array& ids, Caches&) const override {
    computed += ids.shape(1);
    mx::array last = mx::slice(ids, {0, ids.shape(1) - 1}, {1, ids.shape(1)});
    if (ids.shape(1) > 1 || last.item<int>() == kAssistant) {  // a prompt, or the end of one
      ++answer_;
      said_ = 0;
    }
    return embed(ids);
  }
  mx::array logits(const mx::array&) const override {
    std::vector<float> all(kVocab);
    const std::vector<int>& text = answers_.at(answer_);
    all[text[std::min(said_++, text.size() - 1)]] = 1;
    return mx::array(all.data(), {1, 1, kVocab});
  }
  Caches make_caches(const CacheOptions& = {}) const override { return {}; }

  mutable std::atomic<int> computed = 0;

 private:
  std::vector<std::vector<int>> answers_;
  mutable size_t answer_ = SIZE_MAX;
  mutable size_t said_ = 0;
};

struct Fixture {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<ModelContainer> container;
  Script* model = nullptr;

  explicit Fixture(const std::vector<std::string>& texts, const char* chat_template = kToolTemplate)
      : tokenizer(test_tokenizer(chat_template, ascii(), kMarks)) {
    container = std::make_shared<ModelContainer>([&] {
      auto made = std::make_unique<Script>(tokenizer, texts);
      model = made.get();
      return ModelContext{.model = std::move(made), .tokenizer = tokenizer};
    });
  }
  int tokens(std::string_view text) const {
    return static_cast<int>(tokenizer->encode(text, false).size());
  }
};

Tool adder() {
  return {{.name = "add",
           .parameters = {{.name = "b", .type = "integer"}, {.name = "a", .type = "integer"}}},
          [](const OrderedJson& j) {
            return std::to_string(j.at("a").get<int>() + j.at("b").get<int>());
          }};
}

ChatOptions with_tools(std::vector<Tool> tools) {
  ChatOptions options;
  options.parameters.temperature = 0;
  options.tools = std::move(tools);
  return options;
}

const std::string kCall =
    "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"b\": 3, \"a\": 2}}\n</tool_call>";

// What a stream has, for comparison: text as it is, calls as name(arguments), results as =content.
std::vector<std::string> events_of(GenerationStream stream) {
  std::vector<std::string> out;
  bool text = false, thought = false;
  for (const Generation& g : stream) {
    if (g.chunk()) {
      if (!text) out.emplace_back();
      out.back() += *g.chunk();
    }
    if (g.reasoning()) {
      if (!thought) out.emplace_back("~");
      out.back() += g.reasoning()->text;
    }
    if (g.tool_call()) out.push_back(g.tool_call()->name + g.tool_call()->arguments.dump());
    if (g.tool_result()) out.push_back("=" + g.tool_result()->content);
    if (!g.token()) {
      text = g.chunk() != nullptr;
      thought = g.reasoning() != nullptr;
    }
  }
  return out;
}

TEST(SessionTools, AnswerGoesOnFromTheResults) {
  Fixture f({"Let me see. " + kCall, "It is 5.", "Yes."});
  ChatSession session(f.container, with_tools({adder()}));
  std::optional<GenerationInfo> info;
  GenerationStream stream = session.stream("2 and 3?");
  std::vector<std::string> seen;
  int infos = 0;
  while (auto event = stream.next()) {
    if (event->info()) {
      info = *event->info();
      ++infos;
    }
    if (event->tool_result()) seen.push_back(event->tool_result()->content);
  }
  EXPECT_THAT(seen, ElementsAre("5"));
  EXPECT_EQ(infos, 1) << "one account of the whole turn";
  EXPECT_EQ(info->generation_tokens, f.tokens("Let me see. " + kCall) + f.tokens("It is 5."));
  EXPECT_EQ(info->stop_reason, StopReason::stop);

  const Chat& history = session.history();
  ASSERT_EQ(history.size(), 4u);
  EXPECT_EQ(history[1].content, "Let me see. ");
  ASSERT_EQ(history[1].tool_calls.size(), 1u);
  EXPECT_EQ(history[1].tool_calls[0].id.size(), 9u);
  EXPECT_EQ(history[2].role, chat::Role::tool);
  EXPECT_EQ(history[2].content, "5");
  EXPECT_EQ(history[2].call_id, history[1].tool_calls[0].id);
  EXPECT_EQ(history[3], chat::assistant("It is 5."));
  EXPECT_EQ(session.respond("Sure?"), "Yes.");
}

TEST(SessionTools, EachPartComputesOnlyWhatIsNew) {
  Fixture f({kCall, "5", "Yes."});
  ChatSession session(f.container, with_tools({adder()}));
  session.respond("2 and 3?");
  f.model->computed = 0;
  session.respond("Sure?");
  // The question, and the answer with the token that ends it.
  EXPECT_EQ(f.model->computed, f.tokens("<user>Sure?<eos><bot>") + f.tokens("Yes.") + 1);
  Fixture g({kCall, "5"});
  ChatSession fresh(g.container, with_tools({adder()}));
  fresh.respond("2 and 3?");
  const std::string tools = spaced_json(tools_json({adder().spec}));
  const int whole = g.tokens("<sys>" + tools + "<eos><user>2 and 3?<eos><bot>" + kCall +
                             "<eos><user>add call00001 5<eos><bot>5");
  EXPECT_EQ(g.model->computed, whole + 1) << "all once, and one token beyond the end of the call";
}

TEST(SessionTools, SeveralCallsInOneAnswerAndInTurn) {
  Fixture f({kCall + kCall, kCall, "15"});
  ChatSession session(f.container, with_tools({adder()}));
  const std::string call = R"(add{"b":3,"a":2})";
  EXPECT_THAT(events_of(session.stream("?")),
              ElementsAre(call, call, "=5", "=5", call, "=5", "15"));
}

TEST(SessionTools, FaultsAreToldToTheModel) {
  Fixture f(
      {"<tool_call>{\"name\": \"add\", \"arguments\": {\"a\": 1}}</tool_call>"
       "<tool_call>{\"name\": \"sub\", \"arguments\": {}}</tool_call>",
       "Sorry."});
  ChatSession session(f.container, with_tools({adder()}));
  const auto events = events_of(session.stream("?"));
  ASSERT_EQ(events.size(), 5u);
  EXPECT_THAT(events[2], HasSubstr("=Error: tool 'add': the argument 'b' is missing"));
  EXPECT_THAT(events[3], HasSubstr("no tool 'sub'"));
  EXPECT_EQ(events[4], "Sorry.");
}

TEST(SessionTools, WithoutRunTheCallerAnswers) {
  Fixture f({kCall, "It is 7."});
  Tool described = adder();
  described.run = nullptr;
  ChatSession session(f.container, with_tools({described}));
  std::vector<ToolCall> calls;
  for (const Generation& g : session.stream("?"))
    if (g.tool_call()) calls.push_back(*g.tool_call());
  ASSERT_EQ(calls.size(), 1u);
  EXPECT_EQ(session.history().back().tool_calls, calls);
  EXPECT_EQ(session.stream(chat::tool(ToolResult{calls[0], "7"})).text(), "It is 7.");
}

TEST(SessionTools, RoundsAreBounded) {
  Fixture f({kCall, kCall, kCall, kCall});
  ChatOptions options = with_tools({adder()});
  options.max_tool_rounds = 2;
  ChatSession session(f.container, options);
  const std::string call = R"(add{"b":3,"a":2})";
  ::testing::internal::CaptureStderr();
  EXPECT_THAT(events_of(session.stream("?")), ElementsAre(call, "=5", call, "=5", call));
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("after 2 rounds of tool calls"));
}

TEST(SessionTools, AgainBeginsAtTheQuestion) {
  Fixture f({kCall, "5", "Five."});
  ChatSession session(f.container, with_tools({adder()}));
  session.respond("?");
  EXPECT_EQ(session.again().text(), "Five.");
  EXPECT_EQ(session.history().size(), 2u);
}

TEST(SessionTools, AStoppedAnswerLeavesNoOpenCall) {
  Fixture f({kCall + " and so on"});
  ChatSession session(f.container, with_tools({adder()}));
  std::stop_source stop;
  for (const Generation& g : session.stream("?", stop.get_token()))
    if (g.tool_call()) stop.request_stop();
  EXPECT_THAT(session.history(), ElementsAre(chat::user("?"), chat::assistant("")));
}

TEST(SessionTools, OrderOfKeysIsKeptInThePrompt) {
  Fixture f({"-"});
  UserInput input(
      Chat{chat::user("?"),
           {.role = chat::Role::assistant, .tool_calls = {{"add", {{"b", 1}, {"a", 2}}}}}});
  input.tools = tools_json({adder().spec});
  const std::string prompt = f.tokenizer->decode(prepare(input, *f.tokenizer).tokens);
  EXPECT_THAT(prompt, HasSubstr(R"([{"type": "function", "function": {"name": "add")"));
  EXPECT_THAT(prompt, HasSubstr(R"("properties": {"b": {"type": "integer"}, "a": )"));
  EXPECT_THAT(prompt, HasSubstr(R"("arguments": {"b": 1, "a": 2})"));
}

TEST(SessionTools, TemplatesThatWantArgumentsAsText) {
  constexpr const char* kConcatenates =
      "{% for m in messages %}{% for c in (m.tool_calls or []) %}"
      "{{ c.function.name + ' ' + c.function.arguments }}{% endfor %}{{ m.content }}{% endfor %}";
  Fixture f({"-"}, kConcatenates);
  const UserInput input(Chat{{.role = chat::Role::assistant,
                              .content = "!",
                              .tool_calls = {{"add", {{"b", 1}, {"a", 2}}}}}});
  EXPECT_EQ(f.tokenizer->decode(prepare(input, *f.tokenizer).tokens), R"(add {"b": 1, "a": 2}!)");
}

TEST(SessionTools, ToolsInTheSystemMessage) {
  constexpr const char* kSystemTools =
      "{% for m in messages %}{{ m.role }}:{% if m.role == 'system' and 'tools' in m %}"
      "{% set message = m %}{{ message['tools'] }}{% endif %}{{ m.content }};{% endfor %}";
  Fixture f({"-"}, kSystemTools);
  UserInput input(Chat{chat::user("?")});
  input.tools = tools_json({{.name = "f"}});
  const std::string prompt = f.tokenizer->decode(prepare(input, *f.tokenizer).tokens);
  EXPECT_THAT(prompt, HasSubstr(R"(system:[{"name": "f", )"));
  EXPECT_THAT(prompt, HasSubstr("]You are a helpful assistant"));
  EXPECT_THAT(prompt, HasSubstr(";user:?;"));
}

TEST(SessionTools, WithoutAFormatThereIsAnError) {
  Fixture f({"-"}, kTemplate);
  ChatSession session(f.container, with_tools({adder()}));
  EXPECT_THROW(session.respond("?"), Error);
  EXPECT_TRUE(session.history().empty());
  f.container->update([](ModelContext& c) { c.configuration.tool_call_format = "mistral"; });
  EXPECT_EQ(session.respond("?"), "-") << "the configuration names one";
}

TEST(SessionTools, OnlyTheFormatsOwnSpecialTokensAreText) {
  Fixture f({"a<other>b" + kCall, "c<tool_call>d"});
  ChatSession session(f.container, with_tools({adder()}));
  EXPECT_THAT(events_of(session.stream("?")),
              ElementsAre("ab", R"(add{"b":3,"a":2})", "=5", "c<tool_call>d"));
  Fixture g({"c<tool_call>d"});
  EXPECT_EQ(ChatSession(g.container, with_tools({})).respond("?"), "cd") << "without tools";
}

// --- Reasoning

constexpr const char* kThinkTemplate =
    "{% for m in messages %}{% if m.role == 'user' %}<user>{% else %}<bot>"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{% endif %}"
    "{{ m.content }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<bot>{% if begin %}<think>\n{% endif %}{% endif %}";

TEST(SessionReasoning, IsToldFromTheAnswer) {
  Fixture f({"<think>two, three</think>\n\nFive.", "Yes."}, kThinkTemplate);
  ChatSession session(f.container, with_tools({}));
  EXPECT_THAT(events_of(session.stream("?")), ElementsAre("~two, three", "Five."));
  EXPECT_EQ(session.history().back().reasoning, "two, three");
  EXPECT_EQ(session.history().back().content, "Five.");
  EXPECT_EQ(session.respond("Sure?"), "Yes.");
}

TEST(SessionReasoning, MayBeBegunByThePrompt) {
  Fixture f({"hm</think>Five."}, kThinkTemplate);
  ChatOptions options = with_tools({});
  options.additional_context = {{"begin", true}};
  ChatSession session(f.container, options);
  EXPECT_THAT(events_of(session.stream("?")), ElementsAre("~hm", "Five."));
}

TEST(SessionReasoning, IsEndedByItsBudget) {
  // What the model would have said in the place of "\n</think>\n\n" does not come.
  const std::string lost(std::string("\n</think>\n\n").size(), 'x');
  Fixture f({"<think>abcde" + lost + "Five.", "abcde" + lost + "Five.", lost + "Five."},
            kThinkTemplate);
  ChatOptions options = with_tools({});
  options.parameters.reasoning_budget = 6;  // of which the mark's end is one
  ChatSession session(f.container, options);
  EXPECT_THAT(events_of(session.stream("?")), ElementsAre("~abcde\n", "Five."));
}

TEST(SessionReasoning, MayHaveNoBudgetAtAll) {
  const std::string lost(std::string("\n</think>\n\n").size(), 'x');
  Fixture f({lost + "Five."}, kThinkTemplate);
  ChatOptions options = with_tools({});
  options.additional_context = {{"begin", true}};
  options.parameters.reasoning_budget = 0;
  options.parameters.repetition_penalty = 1.0f;  // the sampler's history has what was forced
  ChatSession session(f.container, options);
  std::optional<GenerationInfo> info;
  std::string text;
  for (const Generation& g : session.stream("?")) {
    if (g.chunk()) text += *g.chunk();
    if (g.info()) info = *g.info();
  }
  EXPECT_EQ(text, "Five.");
  EXPECT_EQ(info->reasoning_tokens, 8) << "the line break and the mark, but its last letter";
  options.parameters.reasoning_budget = -1;
  EXPECT_THROW(ChatSession(f.container, options).respond("?"), Error);
}

}  // namespace
}  // namespace mlxcpp

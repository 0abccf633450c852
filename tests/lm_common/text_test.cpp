// Generation with text: stop strings, tool calls, messages and prompts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lm_common/fake_model.h"
#include "lm_common/generate.h"
#include "lm_common/model_context.h"
#include "lm_common/test_tokenizer.h"
#include "tests/support/throws.h"

namespace mlxcpp {
namespace {

using namespace mlxcpp::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string through(std::vector<std::string> stops, const std::vector<std::string>& pieces) {
  StopStrings filter(std::move(stops));
  std::string out;
  for (const std::string& piece : pieces) out += filter.add(piece);
  return out + filter.finish() + (filter.found() ? "|" : "");
}

TEST(StopStrings, NeverEmittedHoweverTheTextIsCut) {
  const std::string text = "one STOP two";
  for (size_t a = 0; a <= text.size(); ++a)
    for (size_t b = a; b <= text.size(); ++b)
      EXPECT_EQ(through({"STOP"}, {text.substr(0, a), text.substr(a, b - a), text.substr(b)}),
                "one |");
}

TEST(StopStrings, BeginningsThatComeToNothingAreGivenOut) {
  EXPECT_EQ(through({"STOP"}, {"a ST", "OLEN S"}), "a STOLEN S");
  EXPECT_EQ(through({"aab"}, {"a", "a", "a", "b", "c"}), "a|");
  EXPECT_EQ(through({}, {"a", "b"}), "ab");
}

TEST(StopStrings, TheFirstToBeCompleteWins) {
  for (const auto& pieces : std::vector<std::vector<std::string>>{{"xabc"}, {"xab", "c"}})
    EXPECT_EQ(through({"abc", "b"}, pieces), "xa|");
  EXPECT_EQ(through({"bc", "abc"}, {"xabc"}), "x|") << "of two that end together, the longer";
}

GenerateOptions with_text(GenerateParameters p) {
  GenerateOptions o;
  o.parameters = std::move(p);
  o.parameters.temperature = 0;
  o.tokenizer = test_tokenizer();
  o.eos = {kEos};
  return o;
}

TEST(Generate, TextAndStopStringsSplitOverTokens) {
  const CountingModel model;  // counts through the alphabet
  const auto answer = [&](std::vector<std::string> stop, int max_tokens) {
    GenerateParameters p;
    p.stop = std::move(stop);
    p.max_tokens = max_tokens;
    Caches caches = model.make_caches();
    return generate(model, caches, letters("a"), with_text(p)).text();
  };
  EXPECT_EQ(answer({}, 5), "bcdef");
  EXPECT_EQ(answer({"efg"}, 20), "bcd");
  EXPECT_EQ(answer({"efx"}, 6), "bcdefg") << "what was held back is given out";
  EXPECT_EQ(answer({"fgh"}, 5), "bcdef") << "also at the end";
  EXPECT_EQ(answer({"b"}, 20), "");
}

TEST(Generate, StopStringEndsTheStreamAtOnce) {
  const CountingModel model;
  GenerateParameters p;
  p.stop = {"de"};
  Caches caches = model.make_caches();
  GenerationStream stream = generate(model, caches, letters("a"), with_text(p));
  std::optional<GenerationInfo> info;
  int tokens = 0;
  for (const Generation& g : stream) {
    tokens += g.token() != nullptr;
    if (g.info()) info = *g.info();
  }
  EXPECT_EQ(tokens, 4);
  EXPECT_EQ(info->stop_reason, StopReason::stop);
  EXPECT_EQ(info->generation_tokens, 4);
}

// Calls are capital letters between '!' and '!'.
class Shouts final : public ToolCallProcessor {
 public:
  std::string add(std::string_view text, std::vector<ToolCall>& calls) override {
    std::string out;
    for (const char c : text) {
      if (c != '!') {
        (open_ ? name_ : out) += c;
      } else if (open_ = !open_; !open_) {
        calls.push_back({std::exchange(name_, {})});
      }
    }
    return out;
  }
  std::string finish(std::vector<ToolCall>&) override { return open_ ? "!" + name_ : ""; }

 private:
  bool open_ = false;
  std::string name_;
};

// Says a text, whatever it is asked.
class Recital final : public LanguageModel {
 public:
  explicit Recital(const std::string& text) : ids_(letters(text)) { ids_.push_back(kEos); }
  mx::array embed(const mx::array& ids) const override {
    return mx::zeros({ids.shape(0), ids.shape(1), 1});
  }
  mx::array hidden(const mx::array& ids, Caches&) const override { return embed(ids); }
  mx::array logits(const mx::array&) const override {
    std::vector<float> all(64);
    all[ids_[said_++ % ids_.size()]] = 1;
    return mx::array(all.data(), {1, 1, 64});
  }
  Caches make_caches(const CacheOptions& = {}) const override { return {}; }

 private:
  std::vector<int> ids_;
  mutable size_t said_ = 0;
};

TEST(Generate, ToolCallsAreTakenOutOfTheText) {
  const Recital model("see !ONE!and !TWO! so");
  Caches caches;
  GenerateOptions o = with_text({});
  o.tool_calls = std::make_unique<Shouts>();
  std::string text;
  std::vector<std::string> calls;
  for (const Generation& g : generate(model, caches, {kUser}, std::move(o))) {
    if (g.chunk()) text += *g.chunk();
    if (g.tool_call()) calls.push_back(g.tool_call()->name);
  }
  EXPECT_EQ(text, "see and  so");
  EXPECT_THAT(calls, ElementsAre("ONE", "TWO"));
}

TEST(Generate, AnOpenToolCallIsTextAtTheEnd) {
  const Recital model("a !B");
  Caches caches;
  GenerateOptions o = with_text({});
  o.tool_calls = std::make_unique<Shouts>();
  EXPECT_EQ(generate(model, caches, {kUser}, std::move(o)).text(), "a !B");
}

// The tokenizer's ids for what is written in its place may lie beyond the model's.
TEST(Generate, TheEndOfAThoughtMustBeInTheVocabulary) {
  const Recital model("abcd");
  Caches caches;
  GenerateOptions o = with_text({.reasoning_budget = 1});
  o.reasoning.emplace(true, ReasoningMarks{"a", "b"});
  o.vocab_size = kUser + 1;
  EXPECT_THAT(test::error_of([&] { generate(model, caches, {kUser}, std::move(o)).text(); }),
              HasSubstr("the end of a thought has the token id"));
}

TEST(UserInput, RendersTheTemplate) {
  const auto tokenizer = test_tokenizer();
  std::vector<int> want = {kUser};
  for (const int id : letters("Hi")) want.push_back(id);
  want.insert(want.end(), {kEos, kAssistant});
  EXPECT_EQ(prepare("Hi", *tokenizer).tokens, want);
  EXPECT_EQ(prepare(Chat{chat::user("Hi")}, *tokenizer).tokens, want);
  EXPECT_EQ(prepare(Json::parse(R"([{"role": "user", "content": "Hi"}])"), *tokenizer).tokens,
            want);
  want.insert(want.begin(), {kSystem, kEos});
  EXPECT_EQ(prepare(Chat{chat::system(""), chat::user("Hi")}, *tokenizer).tokens, want);
}

TEST(UserInput, ContextOverridesTheDefaults) {
  UserInput input("Hi");
  input.additional_context = {{"add_generation_prompt", false}};
  EXPECT_EQ(prepare(input, *test_tokenizer()).tokens.back(), kEos);
}

TEST(UserInput, BaseModelsGetTheLastTextAsItIs) {
  const auto tokenizer = test_tokenizer(nullptr);
  EXPECT_EQ(prepare("Once", *tokenizer).tokens, letters("Once"));
  EXPECT_EQ(prepare(Chat{chat::system("a"), chat::user("b"), chat::user("so")}, *tokenizer).tokens,
            letters("so"));
}

TEST(UserInput, SystemMessagesWhereTheTemplateTakesThem) {
  const Chat conversation = {chat::system("S"), chat::user("U"), chat::assistant("A"),
                             chat::tool("T")};
  EXPECT_EQ(message_generator_for(*test_tokenizer())(conversation), default_messages(conversation));
  const OrderedJson without =
      message_generator_for(*test_tokenizer(kTemplateWithoutSystem))(conversation);
  EXPECT_EQ(without, messages_without_system(conversation));
  ASSERT_EQ(without.size(), 3u);
  EXPECT_EQ(without[0]["role"], "user");
  EXPECT_EQ(without[2]["role"], "tool");
}

TEST(UserInput, MessagesMustBeAList) {
  EXPECT_THROW(prepare(Json{{"role", "user"}}, *test_tokenizer()), Error);
}

ModelContext context_of(std::unique_ptr<LanguageModel> model) {
  ModelContext context{.model = std::move(model), .tokenizer = test_tokenizer()};
  context.config = {{"vocab_size", 64}, {"max_position_embeddings", 100}};
  return context;
}

TEST(ModelContext, EndOfSequenceFromAllSources) {
  ModelContext context = context_of(std::make_unique<CountingModel>());
  context.config["eos_token_id"] = {7, 9};
  context.configuration.extra_eos_tokens = {"<bot>", "not a token"};
  EXPECT_THAT(context.eos(), ElementsAre(kEos, kAssistant, 7, 9));
  context.config["eos_token_id"] = 8;
  EXPECT_THAT(context.eos(), ElementsAre(kEos, kAssistant, 8));
}

TEST(ModelContext, SizesOfTheTextPart) {
  ModelContext context = context_of(std::make_unique<CountingModel>());
  EXPECT_EQ(context.context_length(), 100);
  context.config["text_config"] = {{"max_position_embeddings", 32}};
  EXPECT_EQ(context.context_length(), 32);
  context.config["text_config"] = Json::object();
  EXPECT_EQ(context.context_length(), std::nullopt);
}

TEST(ModelContext, AnswersFromTextToText) {
  const ModelContext context = context_of(std::make_unique<Recital>("Fine, and you?"));
  Caches caches;
  GenerateParameters p;
  p.temperature = 0;
  EXPECT_EQ(context.generate(context.prepare("How are you?"), caches, p).text(), "Fine, and you?");
}

}  // namespace
}  // namespace mlxcpp

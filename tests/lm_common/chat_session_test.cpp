#include "lm_common/chat_session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "lm_common/fake_model.h"
#include "lm_common/memory.h"
#include "lm_common/test_tokenizer.h"

namespace mlxcpp {
namespace {

using namespace mlxcpp::testing;
using ::testing::ElementsAre;

// The model says letters only, so that what it says is the same text when it is read again.
GenerateParameters letters_only(int max_tokens = 12) {
  GenerateParameters p;
  p.max_tokens = max_tokens;
  p.temperature = 1;
  p.logit_bias = {{kEos, -1000.0f}, {kSystem, -1000.0f}, {kUser, -1000.0f}, {kAssistant, -1000.0f}};
  return p;
}

struct Fixture {
  std::shared_ptr<ModelContainer> container;
  TinyModel* model = nullptr;  // for its counters

  explicit Fixture(bool trimmable = true) {
    container = std::make_shared<ModelContainer>([&] {
      auto made = std::make_unique<TinyModel>(7, trimmable);
      model = made.get();
      return ModelContext{.model = std::move(made), .tokenizer = test_tokenizer()};
    });
  }
  int computed() { return model->computed.exchange(0); }
};

TEST(ChatSession, HistoryGrowsByTurns) {
  Fixture f;
  ChatSession session(f.container, {.instructions = "Be kind.", .parameters = letters_only()});
  const std::string first = session.respond("Hello");
  EXPECT_EQ(first.size(), 12u);
  const std::string second = session.respond("And now?");
  EXPECT_THAT(session.history(), ElementsAre(chat::user("Hello"), chat::assistant(first),
                                             chat::user("And now?"), chat::assistant(second)));
  session.reset();
  EXPECT_TRUE(session.history().empty());
  EXPECT_EQ(session.respond("Hello"), first) << "as at the beginning";
}

TEST(ChatSession, ComputesOnlyWhatIsNew) {
  Fixture f;
  ChatSession session(f.container, {.instructions = "Be kind.", .parameters = letters_only(12)});
  session.respond("Hello");
  // <sys>Be kind.<eos><user>Hello<eos><bot>, and the answer but its last token.
  EXPECT_EQ(f.computed(), (1 + 8 + 1) + (1 + 5 + 1) + 1 + 11);
  session.respond("And?");
  // That last token, <eos>, then <user>And?<eos><bot>, and the answer.
  EXPECT_EQ(f.computed(), 1 + 1 + (1 + 4 + 1) + 1 + 11);
}

TEST(ChatSession, WhatOutgrowsItsPositionsIsComputedAgain) {
  SwitchingModel* model = nullptr;
  const auto container = std::make_shared<ModelContainer>([&] {
    auto made = std::make_unique<SwitchingModel>(22);
    model = made.get();
    return ModelContext{.model = std::move(made), .tokenizer = test_tokenizer()};
  });
  ChatSession session(container, {.parameters = letters_only(12)});
  session.respond("Hello");
  EXPECT_EQ(model->computed.exchange(0), 8 + 11);
  session.respond("And?");  // 28 tokens with all that was said
  EXPECT_EQ(model->computed.exchange(0), 28 + 11);
  session.respond("And?");  // the rest as ever
  EXPECT_EQ(model->computed.exchange(0), 1 + 1 + (1 + 4 + 1) + 1 + 11);
}

TEST(ChatSession, ReuseGivesTheSameAnswersAsStartingAnew) {
  // Caches that cannot be trimmed still serve a conversation that only grows.
  for (const bool trimmable : {true, false}) {
    Fixture f(trimmable);
    GenerateParameters p = letters_only();
    p.temperature = 0;
    ChatSession session(f.container, {.parameters = p});
    session.respond("One");
    const Chat before = session.history();
    const std::string reused = session.respond("Two");
    ChatSession anew(f.container, {.parameters = p, .history = before});
    EXPECT_EQ(anew.respond("Two"), reused);
  }
}

// It says a and b where the tokenizer has one token for "ab".
TEST(ChatSession, AnswersInOtherTokensThanTheTokenizersAreTakenUp) {
  TinyModel* model = nullptr;
  const auto container = std::make_shared<ModelContainer>([&] {
    auto made = std::make_unique<TinyModel>(7, false);
    model = made.get();
    return ModelContext{
        .model = std::move(made),
        .tokenizer = test_tokenizer(kTemplate, kLetters.substr(0, 59), {}, {{"a", "b"}})};
  });
  GenerateParameters p;
  p.max_tokens = 12;
  p.temperature = 1;
  for (int id = 0; id < 64; ++id)
    if (id != letters("a")[0] && id != letters("b")[0]) p.logit_bias[id] = -1000.0f;
  ChatSession session(container, {.parameters = p});
  std::string said = session.respond("Hello");
  ASSERT_THAT(said, ::testing::HasSubstr("ab"));
  // The last token of an answer is not in the caches; together with the one before it may be "ab".
  bool at_end = false;
  for (int turn = 0; turn < 12; ++turn) {
    at_end = at_end || said.ends_with("ab");
    model->computed = 0;
    said = session.respond("So");
    EXPECT_EQ(model->computed, 1 + 1 + (1 + 2 + 1) + 1 + 11) << "nothing of before";
  }
  EXPECT_TRUE(at_end);
}

TEST(ChatSession, AgainTrimsBackToTheQuestion) {
  Fixture f;
  ChatSession session(f.container, {.parameters = letters_only()});
  const std::string first = session.respond("Hello");
  f.computed();
  const std::string other = session.again().text();
  EXPECT_NE(first, other);
  EXPECT_EQ(f.computed(), 1 + 11) << "the last token of the question, and the answer";
  EXPECT_THAT(session.history(), ElementsAre(chat::user("Hello"), chat::assistant(other)));
  ChatSession empty(f.container);
  EXPECT_THROW(empty.again(), Error);
}

TEST(ChatSession, CachesThatCannotBeTrimmedAreMadeAnew) {
  Fixture f(false);
  ChatSession session(f.container, {.parameters = letters_only()});
  session.respond("Hello");
  f.computed();
  session.again().text();
  EXPECT_EQ(f.computed(), 1 + 5 + 1 + 1 + 11);
}

TEST(ChatSession, ChangedInstructionsAndCacheOptions) {
  Fixture f;
  ChatSession session(f.container, {.instructions = "Be kind.", .parameters = letters_only()});
  session.respond("Hello");
  f.computed();
  session.instructions() = "Be calm.";  // the same first four tokens
  session.respond("So");
  EXPECT_EQ(f.computed(), (1 + 8 + 1) + (1 + 5 + 1) + (1 + 12 + 1) + (1 + 2 + 1) + 1 + 11 - 4);
  session.parameters().max_kv_size = 1000;
  session.respond("So");
  EXPECT_GT(f.computed(), 50) << "other caches begin empty";
}

TEST(ChatSession, ParametersOfTheNextAnswer) {
  Fixture f;
  ChatSession session(f.container, {.parameters = letters_only(4)});
  EXPECT_EQ(session.respond("a").size(), 4u);
  session.parameters().max_tokens = 7;
  EXPECT_EQ(session.respond("b").size(), 7u);
  session.parameters().top_p = 5;
  EXPECT_THROW(session.respond("c"), Error);
  EXPECT_EQ(session.history().size(), 4u) << "a turn that fails leaves no trace";
  session.parameters().top_p = 1;
  EXPECT_EQ(session.respond("c").size(), 7u);
}

TEST(ChatSession, StoppedAndDroppedAnswersAreKeptAsFarAsTheyGot) {
  Fixture f;
  ChatSession session(f.container, {.parameters = letters_only(1000)});
  std::stop_source stop;
  std::string seen;
  for (const Generation& g : session.stream("Hello", stop.get_token())) {
    if (g.chunk()) seen += *g.chunk();
    if (seen.size() == 5) stop.request_stop();
    if (g.info()) {
      EXPECT_EQ(g.info()->stop_reason, StopReason::cancelled);
    }
  }
  EXPECT_EQ(seen.size(), 5u);
  EXPECT_THAT(session.history(), ElementsAre(chat::user("Hello"), chat::assistant(seen)));
  {
    GenerationStream dropped = session.stream("More");
    while (!dropped.next()->chunk()) {
    }
    EXPECT_THROW(session.stream("Meanwhile"), Error);
    EXPECT_THROW(session.reset(), Error);
  }
  EXPECT_EQ(session.history().back().content.size(), 1u);
  session.parameters().max_tokens = 3;
  f.computed();
  session.respond("On");
  EXPECT_EQ(f.computed(), 1 + (1 + 2 + 1) + 1 + 2) << "the caches go on from there";
}

TEST(ChatSession, SessionsOnOneContainerAnswerAsAlone) {
  Fixture f;
  constexpr int kSessions = 8;
  const auto talk = [&](int i) {
    ChatOptions options{.parameters = letters_only(10 + i)};
    options.parameters.seed = i;
    ChatSession session(f.container, options);
    std::vector<std::string> said;
    for (const char* text : {"Hello", "What next", "Bye"}) said.push_back(session.respond(text));
    return said;
  };
  std::vector<std::vector<std::string>> alone, together(kSessions);
  for (int i = 0; i < kSessions; ++i) alone.push_back(talk(i));
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kSessions; ++i) threads.emplace_back([&, i] { together[i] = talk(i); });
  }
  EXPECT_EQ(together, alone);
}

TEST(ChatSession, StepsOfSessionsTakeTurns) {
  Fixture f;
  ChatSession a(f.container, {.parameters = letters_only(30)});
  ChatSession b(f.container, {.parameters = letters_only(30)});
  GenerationStream from_a = a.stream("Hello"), from_b = b.stream("Hello");
  // Neither has to wait for the end of the other.
  int tokens = 0;
  while (auto event = from_a.next()) {
    tokens += event->token() != nullptr;
    const auto other = from_b.next();
    ASSERT_TRUE(other);
    EXPECT_EQ(event->event.index(), other->event.index());
  }
  EXPECT_EQ(tokens, 30);
}

TEST(ChatSession, ContainerHeldByTheSessionAlone) {
  Fixture f;
  ChatSession session(std::move(f.container), {.parameters = letters_only(3)});
  EXPECT_EQ(session.respond("Hi").size(), 3u);
}

TEST(ChatSession, StreamOutlivesItsSession) {
  Fixture f;
  auto session =
      std::make_unique<ChatSession>(f.container, ChatOptions{.parameters = letters_only(6)});
  GenerationStream stream = session->stream("Hi");
  session.reset();
  EXPECT_EQ(stream.text().size(), 6u);
}

TEST(ChatSession, InsideAPerform) {
  Fixture f;
  const std::string outside =
      ChatSession(f.container, {.parameters = letters_only()}).respond("Hi");
  const std::string inside =
      f.container
          ->perform([&](ModelContext&) {
            return ChatSession(f.container, {.parameters = letters_only()}).respond("Hi");
          })
          .get();
  EXPECT_EQ(inside, outside);
}

TEST(ChatSession, TwoHundredTurnsKeepTheMemory) {
  Fixture f;
  GenerateParameters p = letters_only(8);
  p.max_kv_size = 128;
  ChatSession session(f.container, {.parameters = p});
  const auto active = [&] {
    return f.container->perform([](ModelContext&) { return mx::get_active_memory(); }).get();
  };
  size_t at_20 = 0;
  for (int turn = 1; turn <= 200; ++turn) {
    session.respond("Tell me more");
    if (turn > 1)
      EXPECT_EQ(f.computed(), 1 + 1 + (1 + 12 + 1) + 1 + 7) << "turn " << turn;
    else
      f.computed();
    if (turn == 20) at_20 = active();
  }
  EXPECT_LE(active(), at_20 * 1.05);
  EXPECT_LE(memory_stats().cache, default_cache_limit());
}

TEST(ChatSession, WhatALongPromptFreesIsGivenBack) {
  Fixture f;
  ChatSession session(f.container, {.parameters = letters_only(3)});
  session.respond("Hi");
  session.respond(std::string(3000, 'a'));
  EXPECT_LT(memory_stats().cache, 100'000) << "5 MB of the prompt's";
}

}  // namespace
}  // namespace mlxcpp

#include "lm_common/generate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lm_common/fake_model.h"

namespace mlxcpp {
namespace {

using mlxcpp::testing::CountingModel;
using mlxcpp::testing::SwitchingModel;
using mlxcpp::testing::TinyModel;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

GenerateParameters greedy(std::optional<int> max_tokens = {}) {
  GenerateParameters p;
  p.temperature = 0;
  p.max_tokens = max_tokens;
  return p;
}

struct Answer {
  std::vector<int> ids;
  std::vector<float> logprobs;
  std::optional<GenerationInfo> info;
};

Answer read(GenerationStream stream) {
  Answer answer;
  for (const Generation& g : stream) {
    EXPECT_FALSE(answer.info) << "nothing follows the account";
    if (const Token* t = g.token()) {
      answer.ids.push_back(t->id);
      if (t->logprob) answer.logprobs.push_back(*t->logprob);
    }
    if (g.info()) answer.info = *g.info();
  }
  EXPECT_TRUE(answer.info);
  return answer;
}

template <class Model>
Answer answer(const Model& model, std::vector<int> prompt, GenerateOptions options) {
  Caches caches = model.make_caches(options.parameters.cache_options());
  return read(generate(model, caches, std::move(prompt), std::move(options)));
}

// What the model says without caches and without looking ahead.
std::vector<int> plainly(const TinyModel& model, std::vector<int> ids, int n) {
  std::vector<int> out;
  Caches none;
  for (int i = 0; i < n; ++i) {
    const mx::array logits =
        model(mx::array(ids.data(), {1, static_cast<int>(ids.size())}, mx::int32), none);
    const int length = logits.shape(1);
    const mx::array last = mx::slice(logits, {0, length - 1, 0}, {1, length, TinyModel::kVocab});
    out.push_back(static_cast<int>(mx::argmax(last).item<uint32_t>()));
    ids.push_back(out.back());
  }
  return out;
}

TEST(Generate, GreedyEqualsThePlainLoop) {
  const TinyModel model;
  const std::vector<int> prompt = {5, 9, 33, 2, 60, 11, 11, 4, 8, 1};
  const auto want = plainly(model, prompt, 12);
  for (const int step : {1, 3, 4, 5, 9, 10, 512}) {
    GenerateParameters p = greedy(12);
    p.prefill_step = step;
    const Answer a = answer(model, prompt, {.parameters = p});
    EXPECT_EQ(a.ids, want) << "prefill step " << step;
    EXPECT_EQ(a.info->stop_reason, StopReason::length);
    EXPECT_EQ(a.info->prompt_tokens, 10);
    EXPECT_EQ(a.info->generation_tokens, 12);
  }
}

TEST(Generate, ATextThatOutgrowsItsPositionsIsComputedAgain) {
  const SwitchingModel model(4);
  GenerateParameters p = greedy(6);
  p.prefill_step = 3;
  Caches caches = model.make_caches();
  const auto a = read(generate(model, caches, std::vector<int>{5, 9}, {.parameters = p}));
  EXPECT_EQ(a.ids, plainly(TinyModel(), {5, 9}, 6));
  // The prompt, two tokens, then all five, and what follows.
  EXPECT_THAT(model.chunks, ElementsAre(2, 1, 1, 3, 2, 1, 1));
  EXPECT_EQ(caches[0]->offset(), 7);
  EXPECT_EQ(a.info->generation_tokens, 6);
  // Not where it ends there.
  model.chunks.clear();
  EXPECT_EQ(answer(model, {5, 9}, {.parameters = greedy(3)}).ids.size(), 3u);
  EXPECT_THAT(model.chunks, ElementsAre(2, 1, 1));
  // Nor when it was longer from the beginning.
  model.chunks.clear();
  answer(model, {5, 9, 1, 2, 3}, {.parameters = greedy(3)});
  EXPECT_THAT(model.chunks, ElementsAre(5, 1, 1));
}

TEST(Generate, ComputesNoTokenTwiceAndOneRowOfLogitsAStep) {
  const TinyModel model;
  GenerateParameters p = greedy(6);
  p.prefill_step = 4;
  answer(model, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, {.parameters = p});
  EXPECT_THAT(model.chunks, ElementsAre(4, 4, 2, 1, 1, 1, 1, 1));
  EXPECT_EQ(model.rows_of_logits, 6);
}

TEST(Generate, EndOfSequence) {
  const CountingModel model;
  const Answer a = answer(model, {3}, {.parameters = greedy(), .eos = {9, 40}});
  EXPECT_THAT(a.ids, ElementsAre(4, 5, 6, 7, 8));
  EXPECT_EQ(a.info->stop_reason, StopReason::stop);
  EXPECT_EQ(a.info->generation_tokens, 5);

  GenerateParameters p = greedy(8);
  p.ignore_eos = true;
  EXPECT_EQ(answer(model, {3}, {.parameters = p, .eos = {9}}).ids.size(), 8u);
}

TEST(Generate, LengthZeroAndOne) {
  const CountingModel model;
  const Answer none = answer(model, {3}, {.parameters = greedy(0)});
  EXPECT_TRUE(none.ids.empty());
  EXPECT_EQ(none.info->stop_reason, StopReason::length);
  EXPECT_THAT(answer(model, {3}, {.parameters = greedy(1)}).ids, ElementsAre(4));
}

TEST(Generate, EndOfSequenceAsTheLastTokenIsAStop) {
  const CountingModel model;
  const Answer a = answer(model, {3}, {.parameters = greedy(2), .eos = {5}});
  EXPECT_THAT(a.ids, ElementsAre(4));
  EXPECT_EQ(a.info->stop_reason, StopReason::stop);
}

TEST(Generate, Logprobs) {
  const TinyModel model;
  GenerateParameters p = greedy(4);
  EXPECT_TRUE(answer(model, {1, 2}, {.parameters = p}).logprobs.empty());
  p.logprobs = true;
  const Answer a = answer(model, {1, 2}, {.parameters = p});
  ASSERT_EQ(a.logprobs.size(), 4u);
  for (const float l : a.logprobs) EXPECT_LT(l, 0);
}

TEST(Generate, SeedsMakeAnswersReproducible) {
  const TinyModel model;
  GenerateParameters p;
  p.max_tokens = 20;
  p.temperature = 2;
  p.top_p = 0.98f;
  p.seed = 42;
  const auto run = [&] { return answer(model, {1, 2, 3}, {.parameters = p}).ids; };
  const auto first = run();
  mx::random::seed(99);
  EXPECT_EQ(run(), first);
  p.seed = 43;
  EXPECT_NE(run(), first);
}

TEST(Generate, PenaltiesReachTheModelsAnswer) {
  const TinyModel model;
  GenerateParameters p = greedy(30);
  p.presence_penalty = 1000;
  p.presence_context_size = 40;
  std::vector<int> ids = answer(model, {1, 2, 3}, {.parameters = p}).ids;
  ids.insert(ids.end(), {1, 2, 3});
  EXPECT_EQ(std::set<int>(ids.begin(), ids.end()).size(), ids.size()) << "no token twice";
}

TEST(Generate, CancelledBetweenTokens) {
  const CountingModel model;
  std::stop_source stop;
  Caches caches = model.make_caches();
  GenerationStream stream =
      generate(model, caches, {3}, {.parameters = greedy(), .stop = stop.get_token()});
  int tokens = 0;
  std::optional<GenerationInfo> info;
  for (const Generation& g : stream) {
    if (g.token() && ++tokens == 3) stop.request_stop();
    if (g.info()) info = *g.info();
  }
  EXPECT_EQ(tokens, 3);
  EXPECT_EQ(info->stop_reason, StopReason::cancelled);
  EXPECT_EQ(info->generation_tokens, 3);
  EXPECT_FALSE(stream.next()) << "it stays at its end";
}

TEST(Generate, CancelledWithinOneChunkOfThePrompt) {
  std::stop_source stop;
  CountingModel model;
  int calls = 0;
  model.on_call = [&] {
    if (++calls == 2) stop.request_stop();
  };
  GenerateParameters p = greedy();
  p.prefill_step = 10;
  const Answer a =
      answer(model, std::vector<int>(100, 1), {.parameters = p, .stop = stop.get_token()});
  EXPECT_TRUE(a.ids.empty());
  EXPECT_EQ(a.info->stop_reason, StopReason::cancelled);
  EXPECT_EQ(model.computed, 20);
}

TEST(Generate, TokensInTheCachesAreKnown) {
  const CountingModel model;
  for (const int n : {0, 1, 2, 5}) {
    Caches caches = model.make_caches();
    Generator g(model, caches, {3, 4}, 0, {.parameters = greedy(n), .eos = {8}});
    std::deque<Generation> out;
    while (g.step(out)) {
    }
    EXPECT_EQ(static_cast<int>(g.tokens().size()), caches[0]->offset()) << n;
    for (size_t i = 0; i < g.tokens().size(); ++i)
      EXPECT_EQ(g.tokens()[i], 3 + static_cast<int>(i));
  }
}

TEST(Generate, ContextIsFull) {
  const CountingModel model;
  const Answer a = answer(model, {1, 2, 3}, {.parameters = greedy(), .context_length = 7});
  EXPECT_EQ(a.ids.size(), 4u);
  EXPECT_EQ(a.info->stop_reason, StopReason::length);
}

std::string fault(std::vector<int> prompt, GenerateOptions options) {
  const CountingModel model;
  Caches caches = model.make_caches();
  try {
    generate(model, caches, std::move(prompt), std::move(options));
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(Generate, BadPromptsAreRefused) {
  EXPECT_THAT(fault({}, {}), HasSubstr("empty"));
  EXPECT_THAT(fault({1, 2, 3}, {.context_length = 2}), HasSubstr("has 3 tokens"));
  EXPECT_THAT(fault({1, 2, 3}, {.context_length = 3}), HasSubstr("context holds 3"))
      << "nothing is left for an answer";
  EXPECT_EQ(fault({1, 2, 3}, {.context_length = 4}), "");
  EXPECT_THAT(fault({1, 2, 3}, {.context_length = -1}), HasSubstr("context holds -1"));
  EXPECT_THAT(fault({1, 70}, {.vocab_size = 64}), HasSubstr("70"));
  EXPECT_THAT(fault({1, -1}, {.vocab_size = 64}), HasSubstr("-1"));
  GenerateParameters p;
  p.top_p = 3;
  EXPECT_THAT(fault({1}, {.parameters = p}), HasSubstr("top_p"));
}

}  // namespace
}  // namespace mlxcpp

// What is equal to mlx_lm's samplers golden/sampling shows (tests/llm/golden_test.cpp).
#include "lm_common/sampling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>
#include <string>
#include <thread>

#include "lm_common/sampling_kernels.h"

namespace mlxcpp {
namespace {

using ::testing::HasSubstr;

TEST(Sampling, RowsAreIndependent) {
  const mx::array x = log_softmax(mx::random::normal({3, 50}, mx::float32, mx::random::key(3)));
  const auto row = [](const mx::array& a, int i) {
    return mx::slice(a, {i, 0}, {i + 1, a.shape(1)});
  };
  const std::vector<int> ids = {1, 2, 2, 3, 4, 4, 5, 6, 6};
  const mx::array tokens(ids.data(), {3, 3}, mx::int32);
  const mx::array key = mx::random::key(0);
  const std::map<std::string, mx::array> whole = {
      {"top_k", top_k(x, 4)},
      {"top_p", top_p(x, 0.7f)},
      {"min_p", min_p(x, 0.2f, 3)},
      {"xtc", xtc(x, 1, 0.05f, {}, key)},
      {"repetition", repetition_penalty(x, tokens, 1.4f)},
      {"presence", presence_penalty(x, tokens, 0.4f)},
      {"frequency", frequency_penalty(x, tokens, 0.4f)},
      {"bias", add_logit_bias(x, {{2, 3.0f}})}};
  for (int i = 0; i < 3; ++i) {
    const mx::array one = row(x, i), seen = row(tokens, i);
    const std::map<std::string, mx::array> alone = {
        {"top_k", top_k(one, 4)},
        {"top_p", top_p(one, 0.7f)},
        {"min_p", min_p(one, 0.2f, 3)},
        {"xtc", xtc(one, 1, 0.05f, {}, key)},
        {"repetition", repetition_penalty(one, seen, 1.4f)},
        {"presence", presence_penalty(one, seen, 0.4f)},
        {"frequency", frequency_penalty(one, seen, 0.4f)},
        {"bias", add_logit_bias(one, {{2, 3.0f}})}};
    for (const auto& [name, a] : alone)
      EXPECT_TRUE(mx::array_equal(a, row(whole.at(name), i)).item<bool>()) << name << " row " << i;
  }
}

// The same maths in plain MLX, on one thread.
mx::array plainly_top_p(const mx::array& logprobs, float p) {
  const mx::array sorted = mx::sort(logprobs, -1);
  const mx::array above = mx::cumsum(mx::exp(sorted), -1, true, false);
  const mx::array dropped = mx::sum(mx::greater_equal(above, mx::array(p)), -1, true);
  const mx::array least = mx::take_along_axis(sorted, dropped, -1);
  return mx::where(mx::less(logprobs, least), mx::array(-INFINITY), logprobs);
}

TEST(Sampling, NucleusKeepsWhatIsAsLikelyAsItsLast) {
  const std::vector<float> values = {2, 1, 2, 0, 2, 1, 1};
  const mx::array x = log_softmax(mx::array(values.data(), {1, 7}));
  const auto kept = [&](float p) {
    mx::array y = mx::astype(mx::isfinite(top_p(x, p)), mx::int32);
    y.eval();
    return std::vector<int>(y.data<int>(), y.data<int>() + y.size());
  };
  EXPECT_EQ(kept(0.01f), (std::vector<int>{1, 0, 1, 0, 1, 0, 0}));
  EXPECT_EQ(kept(0.75f), (std::vector<int>{1, 1, 1, 0, 1, 1, 1}));
}

TEST(Sampling, NucleusEqualsSortingTheVocabulary) {
  for (const int vocab : {1, 2, 17, 1000, 50000})
    for (const float spread : {0.0f, 1.0f, 6.0f})
      for (const float p : {0.05f, 0.5f, 0.9f, 0.999f}) {
        const mx::array x = log_softmax(
            mx::multiply(mx::random::normal({2, vocab}, mx::float32, mx::random::key(vocab)),
                         mx::array(spread)));
        const mx::array got = mx::isfinite(top_p(x, p));
        const mx::array want = mx::isfinite(plainly_top_p(x, p));
        // Float sums in another order may move the edge by a token.
        const int differ = mx::sum(mx::not_equal(got, want)).item<int>();
        EXPECT_LE(differ, 2 + vocab / 500) << vocab << " " << spread << " " << p;
      }
}

TEST(Sampling, DrawInvertsTheRunningSum) {
  const auto draws = [](std::vector<float> weights, const std::vector<float>& uniform) {
    const int n = static_cast<int>(weights.size());
    std::vector<int> ids;
    for (const float u : uniform)
      ids.push_back(draw(mx::array(weights.data(), {1, n}), mx::array({u}, {1, 1})).item<int>());
    return ids;
  };
  const float last = std::nextafter(1.0f, 0.0f);
  EXPECT_EQ(draws({1, 1, 2}, {0, 0.2f, 0.25f, 0.49f, 0.5f, last}),
            (std::vector<int>{0, 0, 1, 1, 2, 2}));
  EXPECT_EQ(draws({0, 3, 0, 0}, {0, 0.5f, last}), (std::vector<int>{1, 1, 1}));
  std::vector<float> sparse(5000);
  sparse[700] = 0.25f;
  sparse[4999] = 0.75f;
  EXPECT_EQ(draws(sparse, {0, 0.24f, 0.26f, last}), (std::vector<int>{700, 700, 4999, 4999}));
  // Rows, and strides that are not those of the shape.
  const std::vector<float> columns = {1, 0, 0, 0, 0, 1};  // [3, 2], read as [2, 3]
  mx::array ids = draw(mx::transpose(mx::array(columns.data(), {3, 2})), mx::zeros({2, 1}));
  ids.eval();
  EXPECT_EQ(ids.data<int>()[0], 0);
  EXPECT_EQ(ids.data<int>()[1], 2);
}

TEST(Sampling, OneTokenAlwaysStays) {
  const mx::array x = log_softmax(mx::zeros({1, 8}));
  for (const mx::array& filtered : {top_p(x, 1e-9f), min_p(x, 1.0f), top_k(x, 1)})
    EXPECT_GE(mx::sum(mx::isfinite(filtered)).item<int>(), 1);
}

TEST(Sampling, MoreThanTheVocabularyKeepsAll) {
  const mx::array x = log_softmax(mx::random::normal({1, 8}, mx::float32, mx::random::key(1)));
  EXPECT_TRUE(mx::array_equal(top_k(x, 8), x).item<bool>());
  EXPECT_TRUE(mx::array_equal(top_k(x, 100), x).item<bool>());
  EXPECT_TRUE(mx::array_equal(min_p(x, 0.5f, 100), x).item<bool>());
}

TEST(Sampling, LogitBiasOutsideTheVocabularyIsRefused) {
  try {
    add_logit_bias(mx::zeros({1, 8}), {{8, 1.0f}});
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("logit_bias"));
    EXPECT_THAT(e.what(), HasSubstr("8"));
  }
}

std::vector<int> draw(const GenerateParameters& p, int n, const mx::array& logits) {
  Sampler sampler(p);
  std::vector<int> ids;
  for (int i = 0; i < n; ++i) ids.push_back(sampler(logits).token.item<int>());
  return ids;
}

TEST(Sampler, DrawsFollowTheDistribution) {
  const std::vector<float> p = {0.5f, 0.25f, 0.125f, 0.125f};
  const mx::array logits = mx::log(mx::array(p.data(), {1, 4}));
  GenerateParameters parameters;
  parameters.temperature = 1;
  parameters.seed = 11;
  constexpr int kDraws = 4000;
  std::vector<int> count(4);
  for (const int id : draw(parameters, kDraws, logits)) ++count[id];
  for (int i = 0; i < 4; ++i) {
    const double sigma = std::sqrt(kDraws * p[i] * (1 - p[i]));
    EXPECT_NEAR(count[i], kDraws * p[i], 5 * sigma) << i;
  }
}

TEST(Sampler, SeedDecidesAndTheGlobalStateDoesNot) {
  const mx::array logits = mx::zeros({1, 1000});
  GenerateParameters p;
  p.seed = 5;
  mx::random::seed(1);
  const auto first = draw(p, 20, logits);
  mx::random::seed(2);
  mx::eval(mx::random::normal({10}));
  EXPECT_EQ(first, draw(p, 20, logits));
  EXPECT_GT(std::set<int>(first.begin(), first.end()).size(), 15u);
  p.seed = 6;
  EXPECT_NE(first, draw(p, 20, logits));

  // Two samplers that take turns disturb one another as little.
  p.seed = 5;
  Sampler a(p), b(p);
  std::vector<int> from_a, from_b;
  for (int i = 0; i < 20; ++i) {
    from_a.push_back(a(logits).token.item<int>());
    from_b.push_back(b(logits).token.item<int>());
  }
  EXPECT_EQ(from_a, first);
  EXPECT_EQ(from_b, first);
}

// The origin's concurrent-sampling test: samplers on threads of their own, compiled steps and all,
// give what each gives alone.
TEST(Sampler, ConcurrentSampling) {
  constexpr int kThreads = 8;
  mx::array logits = mx::random::normal({1, 1000}, mx::float32, mx::random::key(3));
  logits.eval();
  const auto parameters = [](int i) {
    GenerateParameters p;
    p.seed = static_cast<uint64_t>(i);
    p.temperature = 0.8f;
    if (i % 2) p.top_p = 0.9f;
    if (i % 3) p.top_k = 50;
    if (i % 4) p.repetition_penalty = 1.2f;
    return p;
  };
  std::vector<std::vector<int>> alone, together(kThreads);
  for (int i = 0; i < kThreads; ++i) alone.push_back(draw(parameters(i), 30, logits));
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i)
      threads.emplace_back([&, i] {
        mx::set_default_device(mx::Device::cpu);
        together[i] = draw(parameters(i), 30, logits);
        mx::clear_streams();
      });
  }
  EXPECT_EQ(together, alone);
}

TEST(Sampler, GreedyAndLogprob) {
  const std::vector<float> values = {0, 3, 1, 2};
  GenerateParameters p;
  p.temperature = 0;
  p.logprobs = true;
  Sampler sampler(p);
  Sampler::Sample s = sampler(mx::astype(mx::array(values.data(), {1, 4}), mx::bfloat16));
  EXPECT_EQ(s.token.item<int>(), 1);
  const double total = 1 + std::exp(3.0) + std::exp(1.0) + std::exp(2.0);
  EXPECT_NEAR(s.logprob->item<float>(), 3 - std::log(total), 1e-5);
}

TEST(Sampler, ColdIsGreedyAndNeverOverflows) {
  const std::vector<float> values = {1e6f, -1e6f, 2e6f, 3};
  const mx::array logits(values.data(), {1, 4});
  for (const float t : {1e-30f, 1e-6f, 1e-3f}) {
    GenerateParameters p;
    p.temperature = t;
    EXPECT_EQ(draw(p, 3, logits), (std::vector<int>{2, 2, 2})) << t;
  }
}

TEST(Sampler, HistorySlides) {
  // All logits are equal, a repeated token is forbidden within the last three.
  GenerateParameters p;
  p.temperature = 0;
  p.presence_penalty = 100;
  p.presence_context_size = 3;
  Sampler sampler(p);
  sampler.prompt(std::vector<int>{9, 9, 0});
  std::vector<int> ids;
  for (int i = 0; i < 8; ++i) ids.push_back(sampler(mx::zeros({1, 10})).token.item<int>());
  EXPECT_EQ(ids, (std::vector<int>{1, 2, 3, 0, 1, 2, 3, 0}));
}

TEST(Sampler, ContextOfNoneIsNoPenalty) {
  GenerateParameters p;
  p.temperature = 0;
  p.repetition_penalty = 2;
  p.repetition_context_size = 0;
  p.presence_penalty = 1;
  p.presence_context_size = 2;
  Sampler sampler(p);
  sampler.prompt(std::vector<int>{0});
  const std::vector<float> values = {10, 8, 0};
  EXPECT_EQ(sampler(mx::array(values.data(), {1, 3})).token.item<int>(), 0);
}

TEST(Sampler, BatchedRowsKeepTheirOwnHistory) {
  GenerateParameters p;
  p.temperature = 0;
  p.presence_penalty = 100;
  Sampler sampler(p);
  sampler.prompt(std::vector<int>{0});
  const std::vector<float> values = {9, 5, 4, 3, 9, 4, 5, 3};
  const mx::array logits(values.data(), {2, 4});
  const auto step = [&] {
    const mx::array t = sampler(logits).token;
    mx::eval(t);
    return std::vector<int>{t.data<int>()[0], t.data<int>()[1]};
  };
  EXPECT_EQ(step(), (std::vector<int>{1, 2}));
  EXPECT_EQ(step(), (std::vector<int>{2, 1}));
  EXPECT_EQ(step(), (std::vector<int>{3, 3}));
}

}  // namespace
}  // namespace mlxcpp

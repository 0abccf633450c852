#include "llm/blocks/moe.h"

#include <gtest/gtest.h>

#include "../support/throws.h"
#include "llm/blocks/short_conv.h"

namespace mlxcpp::llm {
namespace {

using ::testing::HasSubstr;
using Scores = RoutingOptions::Scores;

// The chosen experts of one token in ascending order, with their weights.
std::map<int, float> chosen(const std::vector<float>& logits, const RoutingOptions& o,
                            const std::optional<mx::array>& bias = {}) {
  const Routing r = route(mx::array(logits.begin(), {1, static_cast<int>(logits.size())}), o, bias);
  std::map<int, float> out;
  for (int i = 0; i < r.experts.shape(-1); ++i)
    out[mx::take(r.experts, i).item<int>()] = mx::take(r.weights, i).item<float>();
  return out;
}

TEST(Route, SoftmaxOfAllOrOfTheChosen) {
  const std::vector<float> logits = {0, std::log(2.0f), std::log(4.0f),
                                     std::log(3.0f)};  // 1 2 4 3 of 10
  RoutingOptions o{.num_experts = 4, .num_experts_per_tok = 2};
  auto got = chosen(logits, o);
  ASSERT_EQ(got.size(), 2u);
  EXPECT_NEAR(got.at(2), 0.4, 1e-6);
  EXPECT_NEAR(got.at(3), 0.3, 1e-6);
  o.norm_topk_prob = true;
  o.routed_scaling_factor = 2;
  got = chosen(logits, o);
  EXPECT_NEAR(got.at(2), 8.0 / 7, 1e-6);
  EXPECT_NEAR(got.at(3), 6.0 / 7, 1e-6);
}

TEST(Route, TheCorrectionBiasChoosesButDoesNotWeigh) {
  const RoutingOptions o{.num_experts = 3, .num_experts_per_tok = 1, .scores = Scores::sigmoid};
  EXPECT_TRUE(chosen({2, 0, 1}, o).contains(0));
  const auto got = chosen({2, 0, 1}, o, mx::array({0.0f, 1.0f, 0.0f}));
  ASSERT_TRUE(got.contains(1));
  EXPECT_NEAR(got.at(1), 0.5, 1e-6);
}

TEST(Route, OnlyTheBestGroups) {
  RoutingOptions o{.num_experts = 6, .num_experts_per_tok = 2, .n_group = 3, .topk_group = 1};
  // The best expert stands in group 0, the best two together in group 2.
  const std::vector<float> logits = {3, 0, 0.5, 0.4, 2.5, 2.4};
  o.group_score = RoutingOptions::GroupScore::best;
  auto got = chosen(logits, o);
  EXPECT_TRUE(got.contains(0) && got.contains(1));
  o.group_score = RoutingOptions::GroupScore::best_two;
  o.scores = Scores::sigmoid;
  got = chosen(logits, o);
  EXPECT_TRUE(got.contains(4) && got.contains(5));
}

TEST(Route, NextToTheBestWhatComesClose) {
  RoutingOptions o{.num_experts = 4, .num_experts_per_tok = 2, .scores = Scores::sparse_mixer};
  o.sparse_mixer_band = 0.1f;
  const auto got = chosen({10, 9.5, 1, 9.45}, o);
  ASSERT_EQ(got.size(), 2u);
  EXPECT_NEAR(got.at(0), 1 / (1 + std::exp(-0.5) + std::exp(-0.55)), 1e-6);
  EXPECT_NEAR(got.at(1), 1 / (1 + std::exp(-0.05)), 1e-6);
}

// What is being differentiated goes by plain operations.
TEST(Route, TheLoopIsThePlainOperations) {
  std::vector<RoutingOptions> all(5, {.num_experts = 16, .num_experts_per_tok = 3});
  all[1].norm_topk_prob = true;
  all[1].routed_scaling_factor = 2.5f;
  all[2].scores = Scores::sigmoid;
  all[2].n_group = 4;
  all[2].topk_group = 2;
  all[3] = all[2];
  all[3].group_score = RoutingOptions::GroupScore::best;
  all[4].scores = Scores::sparse_mixer;
  const auto x = mx::random::normal({7, 16}, mx::float32, mx::random::key(3));
  const auto bias = mx::random::uniform({16}, mx::float32, mx::random::key(4));
  for (const RoutingOptions& o : all)
    for (const bool corrected : {false, true}) {
      const auto outcome = [&](const std::vector<mx::array>& in) {
        const Routing r = route(in[0], o, corrected ? std::optional(bias) : std::nullopt);
        const auto place = mx::astype(r.experts, mx::float32) + mx::array(1.0f);
        return std::vector{mx::sum(r.weights * place, -1)};
      };
      const auto traced = mx::vjp(outcome, {x}, {mx::ones({7})}).first[0];
      EXPECT_TRUE(mx::allclose(outcome({x})[0], traced, 1e-5, 1e-6).item<bool>());
    }
  EXPECT_THROW(route(mx::zeros({1, 5}), all[0]), Error);
}

TEST(WeighedSum, IsThatOfPlainOperations) {
  for (const int tokens : {1, 3, 40}) {  // the last goes by plain operations
    const auto y = mx::random::normal({tokens, 4, 512}, mx::float32, mx::random::key(5));
    const auto w = mx::random::normal({tokens, 4}, mx::float32, mx::random::key(6));
    const auto want = mx::sum(y * mx::expand_dims(w, -1), -2);
    EXPECT_TRUE(mx::allclose(weighed_sum(y, w), want, 1e-5, 1e-6).item<bool>());
  }
}

TEST(Route, NumbersThatDoNotFit) {
  const auto text = [](RoutingOptions o) {
    return test::error_of([&] { o.check("config.json"); });
  };
  EXPECT_THAT(text({}), HasSubstr("number of experts"));
  EXPECT_THAT(text({.num_experts = 4, .num_experts_per_tok = 5}), HasSubstr("num_experts_per_tok"));
  EXPECT_THAT(text({.num_experts = 6, .num_experts_per_tok = 1, .n_group = 4}),
              HasSubstr("n_group"));
  EXPECT_THAT(text({.num_experts = 6, .num_experts_per_tok = 1, .n_group = 2, .topk_group = 3}),
              HasSubstr("topk_group"));
  EXPECT_THAT(text({.num_experts = 6, .num_experts_per_tok = 3, .n_group = 3, .topk_group = 1}),
              HasSubstr("num_experts_per_tok"));
}

TEST(Experts, AreStackedInTheirOrder) {
  nn::Weights in;
  for (int e = 0; e < 12; ++e)  // 10 comes before 2 by name
    in.emplace(fmt::format("model.layers.0.mlp.experts.{}.up_proj.weight", e),
               mx::full({2, 3}, float(e)));
  in.emplace("model.norm.weight", mx::ones({3}));
  const auto out = stack_experts(in);
  ASSERT_EQ(out.size(), 2u);
  const auto& stack = out.at("model.layers.0.mlp.switch_mlp.up_proj.weight");
  EXPECT_EQ(stack.shape(), (mx::Shape{12, 2, 3}));
  EXPECT_EQ(mx::max(mx::take(stack, 10, 0)).item<float>(), 10);
}

TEST(Experts, StackedGateAndUpAreCutInTwo) {
  const auto fused = mx::concatenate({mx::zeros({4, 2, 3}), mx::ones({4, 2, 3})}, 1);
  const auto out = stack_experts(
      {{"l.mlp.experts.gate_up_proj", fused}, {"l.mlp.experts.down_proj", mx::ones({4, 3, 2})}});
  EXPECT_EQ(mx::max(out.at("l.mlp.switch_mlp.gate_proj.weight")).item<float>(), 0);
  EXPECT_EQ(mx::min(out.at("l.mlp.switch_mlp.up_proj.weight")).item<float>(), 1);
  EXPECT_TRUE(out.contains("l.mlp.switch_mlp.down_proj.weight"));
}

TEST(Experts, AMissingOneIsNamed) {
  const nn::Weights in = {{"l.experts.0.up_proj.weight", mx::ones({2, 3})},
                          {"l.experts.2.up_proj.weight", mx::ones({2, 3})}};
  EXPECT_THAT(test::error_of([&] { stack_experts(in); }), HasSubstr("expert 1"));
}

TEST(CausalConv, ChunksGiveWhatTheWholeGives) {
  CausalConv conv(5, 3, true);
  conv.weight.set(mx::random::normal({5, 3, 1}));
  conv.bias.set(mx::random::normal({5}));
  const auto x = mx::random::normal({2, 9, 5});
  std::optional<mx::array> none, state;
  const auto whole = conv(x, none);
  std::vector<mx::array> parts;
  for (const auto& [from, to] : {std::pair(0, 4), {4, 5}, {5, 6}, {6, 9}})
    parts.push_back(conv(mx::slice(x, {0, from, 0}, {2, to, 5}), state));
  EXPECT_TRUE(mx::allclose(mx::concatenate(parts, 1), whole, 1e-5, 1e-5).item<bool>());
}

}  // namespace
}  // namespace mlxcpp::llm

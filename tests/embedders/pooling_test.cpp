#include "embedders/pooling.h"

#include "support/throws.h"

namespace mlxcpp::embedders {
namespace {

// Two texts of 2 and 3 tokens, vectors of 2.
const std::vector<float> kNumbers{1, 8, 3, 2, 5, 0, 7, 4, 9, -1};

std::vector<float> pooled(Pooling pooling, const std::vector<int>& skip = {}) {
  const Tokens a{.ids = {1, 2}}, b{.ids = {3, 4, 5}};
  const Tokens* both[] = {&a, &b};
  const mx::array hidden(kNumbers.data(), {5, 2}, mx::float32);
  auto out = mx::contiguous(pool(hidden, PackedTokens(both), pooling, skip));
  out.eval();
  return {out.data<float>(), out.data<float>() + out.size()};
}

using Floats = std::vector<float>;

TEST(Pooling, EveryKindTakesItsOwnTokensOnly) {
  EXPECT_EQ(pooled(Pooling::mean), (Floats{2, 5, 7, 1}));
  EXPECT_EQ(pooled(Pooling::cls), (Floats{1, 8, 5, 0}));
  EXPECT_EQ(pooled(Pooling::first), (Floats{1, 8, 5, 0}));
  EXPECT_EQ(pooled(Pooling::last), (Floats{3, 2, 9, -1}));
  EXPECT_EQ(pooled(Pooling::max), (Floats{3, 8, 9, 4}));
  EXPECT_EQ(pooled(Pooling::none), kNumbers);
  EXPECT_FLOAT_EQ(pooled(Pooling::mean_sqrt_len)[0], 4 / std::sqrt(2.0f));
  EXPECT_FLOAT_EQ(pooled(Pooling::weighted_mean)[2], (5 + 2 * 7 + 3 * 9) / 6.0f);
}

TEST(Pooling, ThePromptsTokensCanBeLeftOut) {
  EXPECT_EQ(pooled(Pooling::mean, {1, 2}), (Floats{3, 2, 9, -1}));
  EXPECT_EQ(pooled(Pooling::max, {0, 1}), (Floats{3, 8, 9, 4}));
  EXPECT_FLOAT_EQ(pooled(Pooling::weighted_mean, {0, 1})[2], (2 * 7 + 3 * 9) / 5.0f);
  // nothing else is there
  EXPECT_EQ(pooled(Pooling::mean, {2, 5}), (Floats{2, 5, 7, 1}));
}

TEST(Pooling, NamesGoBothWays) {
  for (const auto n : pooling_names()) EXPECT_EQ(name(*pooling_from_name(n)), n);
  EXPECT_FALSE(pooling_from_name("average"));
}

TEST(PackedTokens, KnowsWhereEachTextBegins) {
  const Tokens a{.ids = {7, 8}}, b{.ids = {9}, .type_ids = {1}};
  const Tokens* both[] = {&a, &b};
  const PackedTokens packed(both);
  EXPECT_TRUE(packed.pairs);
  const auto equal = [](const mx::array& got, const std::vector<int>& want) {
    return std::vector<int>(got.data<int>(), got.data<int>() + got.size()) == want;
  };
  EXPECT_TRUE(equal(packed.ids, {7, 8, 9}));
  EXPECT_TRUE(equal(packed.type_ids, {0, 0, 1}));
  EXPECT_TRUE(equal(packed.positions, {0, 1, 0}));
  EXPECT_TRUE(equal(packed.first_tokens(), {0, 2}));
  EXPECT_TRUE(equal(packed.last_tokens(), {1, 2}));
}

}  // namespace
}  // namespace mlxcpp::embedders

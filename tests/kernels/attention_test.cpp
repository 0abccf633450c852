#include "kernels/attention.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "kernels/isa.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::kernels {
namespace {

mx::array normal(const mx::Shape& shape, uint64_t seed, mx::Dtype dtype = mx::float32) {
  return mx::astype(mx::random::normal(shape, mx::random::key(seed)), dtype);
}

float largest_difference(const mx::array& a, const mx::array& b) {
  EXPECT_EQ(a.shape(), b.shape());
  EXPECT_EQ(a.dtype(), b.dtype());
  if (a.size() == 0) return 0.0f;
  const auto d = mx::abs(mx::astype(a, mx::float32) - mx::astype(b, mx::float32));
  return mx::max(mx::where(mx::isnan(d), mx::array(1e30f), d)).item<float>();
}

bool identical(const mx::array& a, const mx::array& b) {
  return mx::array_equal(a, b).item<bool>();
}

float tolerance(mx::Dtype dtype) {
  return dtype == mx::float32 ? 5e-6f : dtype == mx::float16 ? 2e-3f : 1.6e-2f;
}

struct Sizes {
  int B, H, Hkv, L, S, D, Dv;
};

class EachIsa : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    before_ = isa();
    set_isa(GetParam());
  }
  void TearDown() override { set_isa(before_); }

 private:
  Isa before_ = Isa::generic;
};
INSTANTIATE_TEST_SUITE_P(Attention, EachIsa, ::testing::ValuesIn(available_isas()),
                         [](const auto& info) { return std::string(name(info.param)); });

void compare(const Sizes& z, AttentionOptions o, mx::Dtype dtype) {
  o.scale /= std::sqrt(static_cast<float>(z.D));
  const auto q = normal({z.B, z.H, z.L, z.D}, 1, dtype),
             k = normal({z.B, z.Hkv, z.S, z.D}, 2, dtype),
             v = normal({z.B, z.Hkv, z.S, z.Dv}, 3, dtype);
  EXPECT_LE(largest_difference(attention(q, k, v, o), plain_attention(q, k, v, o)),
            tolerance(dtype))
      << "B " << z.B << " H " << z.H << "/" << z.Hkv << " L " << z.L << " S " << z.S << " D " << z.D
      << "/" << z.Dv << " causal " << o.causal << " window " << o.window.value_or(0);
}

const std::vector<Sizes> kShapes = {
    {1, 1, 1, 1, 1, 1, 1},       {1, 3, 1, 1, 70, 64, 64},  {2, 9, 3, 1, 200, 64, 64},
    {1, 4, 1, 1, 130, 256, 256}, {1, 2, 2, 5, 5, 16, 16},   {1, 2, 1, 7, 300, 20, 33},
    {2, 4, 2, 17, 17, 80, 80},   {1, 6, 2, 33, 97, 64, 48}, {1, 8, 1, 200, 200, 32, 32},
    {1, 2, 2, 300, 700, 7, 5},   {3, 5, 5, 2, 65, 12, 100}, {1, 3, 1, 64, 64, 64, 64},
    {1, 1, 1, 6, 3, 8, 8},
};
// Split over the keys.
const std::vector<Sizes> kLong = {
    {1, 16, 1, 1, 1100, 576, 512}, {1, 12, 4, 1, 2049, 64, 64}, {1, 32, 1, 40, 1500, 40, 24}};

TEST_P(EachIsa, EqualsPlainOps) {
  for (const auto dtype : {mx::float32, mx::bfloat16, mx::float16})
    for (const auto& shapes : {kShapes, kLong})
      for (const Sizes& z : shapes)
        for (const bool causal : {true, false}) compare(z, {.causal = causal}, dtype);
}

TEST_P(EachIsa, Windows) {
  for (const int window : {1, 2, 63, 64, 65})
    for (const Sizes& z : kShapes) compare(z, {.window = window}, mx::float32);
  for (const Sizes& z : kLong) compare(z, {.window = 700}, mx::float32);
}

TEST_P(EachIsa, SoftcapAndSinks) {
  for (const Sizes& z : kShapes) {
    compare(z, {.softcap = 0.5f}, mx::float32);
    compare(z, {.sinks = normal({z.H}, 9)}, mx::float32);
    compare(z, {.window = 9, .sinks = normal({z.H}, 9), .softcap = 2.0f}, mx::float32);
  }
}

TEST_P(EachIsa, ArrayMasks) {
  for (const Sizes& z : kShapes)
    for (const mx::Shape& shape : {mx::Shape{z.B, z.H, z.L, z.S}, mx::Shape{z.L, z.S},
                                   mx::Shape{z.B, 1, 1, z.S}, mx::Shape{z.H, 1, 1}, mx::Shape{1}}) {
      const auto noise = normal(shape, 7);
      compare(z, {.mask = mx::greater(noise, mx::array(0.2f))}, mx::float32);
      for (const auto dtype : {mx::float32, mx::bfloat16, mx::float16})
        compare(z, {.mask = mx::astype(noise, dtype)}, mx::float32);
    }
}

TEST_P(EachIsa, AQueryThatSeesNothingGetsZeros) {
  const auto q = normal({1, 2, 20, 16}, 1), k = normal({1, 1, 50, 16}, 2);
  const auto none = mx::full({1, 1, 20, 50}, false);
  EXPECT_TRUE(identical(attention(q, k, k, {.mask = none}), mx::zeros({1, 2, 20, 16})));
  const auto minus = mx::full({20, 50}, -std::numeric_limits<float>::infinity());
  EXPECT_TRUE(identical(attention(q, k, k, {.mask = minus}), mx::zeros({1, 2, 20, 16})));
  const auto nothing = normal({1, 1, 0, 16}, 3);
  EXPECT_TRUE(
      identical(attention(q, nothing, nothing, {.causal = false}), mx::zeros({1, 2, 20, 16})));
}

TEST_P(EachIsa, LargeScores) {
  const auto q = normal({1, 2, 3, 64}, 1) * mx::array(100.0f), k = normal({1, 1, 300, 64}, 2);
  const AttentionOptions o{.scale = 10.0f};
  EXPECT_LE(largest_difference(attention(q, k, k, o), plain_attention(q, k, k, o)), 1e-3f);
}

TEST_P(EachIsa, StridedInputs) {
  const AttentionOptions o{.scale = 0.2f};
  const auto heads_inside = [](const mx::Shape& s, uint64_t seed) {
    return mx::transpose(normal({s[0], s[2], s[1], s[3]}, seed), {0, 2, 1, 3});
  };
  const auto q = heads_inside({2, 6, 21, 24}, 1), k = heads_inside({2, 2, 50, 24}, 2);
  const auto v = mx::slice(heads_inside({2, 2, 50, 40}, 3), {0, 0, 0, 4}, {2, 2, 50, 34});
  const auto want = plain_attention(q, k, v, o);
  EXPECT_LE(largest_difference(attention(q, k, v, o), want), 5e-6f);
  const auto columns = mx::swapaxes(mx::contiguous(mx::swapaxes(k, -1, -2)), -1, -2);
  EXPECT_LE(largest_difference(attention(q, columns, v, o), want), 5e-6f);
  const auto repeated = mx::broadcast_to(normal({1, 1, 50, 24}, 5), {2, 2, 50, 24});
  EXPECT_LE(largest_difference(attention(q, repeated, v, o), plain_attention(q, repeated, v, o)),
            5e-6f);
}

TEST_P(EachIsa, TheSameForAnyNumberOfThreads) {
  const int before = num_threads();
  auto shapes = kLong;
  shapes.push_back({1, 9, 3, 100, 150, 64, 64});
  for (const Sizes& z : shapes) {
    const auto q = normal({z.B, z.H, z.L, z.D}, 1), k = normal({z.B, z.Hkv, z.S, z.D}, 2),
               v = normal({z.B, z.Hkv, z.S, z.Dv}, 3);
    set_num_threads(1);
    auto one = attention(q, k, v, {.scale = 0.1f});
    one.eval();
    for (const int n : {2, 5}) {
      set_num_threads(n);
      EXPECT_TRUE(identical(attention(q, k, v, {.scale = 0.1f}), one));
    }
  }
  set_num_threads(before);
}

TEST(Attention, EmptyBatch) {
  const auto q = mx::zeros({0, 4, 3, 8}), k = mx::zeros({0, 2, 3, 8});
  EXPECT_EQ(attention(q, k, k, {}).shape(), (mx::Shape{0, 4, 3, 8}));
  const auto none = mx::zeros({1, 4, 0, 8}), k1 = mx::zeros({1, 2, 3, 8});
  auto y = attention(none, k1, k1, {});
  y.eval();
  EXPECT_EQ(y.shape(), (mx::Shape{1, 4, 0, 8}));
}

TEST(Attention, JoiningTheHeadsAfterwardsIsRight) {
  const auto q = normal({2, 4, 9, 8}, 1), k = normal({2, 2, 9, 8}, 2);
  const auto join = [](const mx::array& y) {
    return mx::reshape(mx::transpose(y, {0, 2, 1, 3}), {2, 9, 32});
  };
  EXPECT_LE(largest_difference(join(attention(q, k, k, {})), join(plain_attention(q, k, k, {}))),
            5e-6f);
  EXPECT_LE(largest_difference(attention(q, k, k, {}) + q, plain_attention(q, k, k, {}) + q),
            5e-6f);
}

TEST(Attention, GradientsAndVmapGoThroughPlainOps) {
  const auto q = normal({1, 4, 5, 8}, 1), k = normal({1, 2, 6, 8}, 2), v = normal({1, 2, 6, 8}, 3);
  const AttentionOptions o{.scale = 0.4f, .sinks = normal({4}, 4), .softcap = 3.0f};
  const auto loss = [&](auto f) {
    return [f, o](const std::vector<mx::array>& in) {
      return mx::sum(mx::square(f(in[0], in[1], in[2], o)));
    };
  };
  const auto got = mx::grad(loss(attention), std::vector<int>{0, 1, 2})({q, k, v});
  const auto want = mx::grad(loss(plain_attention), std::vector<int>{0, 1, 2})({q, k, v});
  for (int i = 0; i < 3; ++i) EXPECT_LE(largest_difference(got[i], want[i]), 1e-5f);

  const auto many = mx::vmap([&](const std::vector<mx::array>& in) {
    return std::vector<mx::array>{attention(in[0], in[1], in[2], o)};
  })({mx::stack({q, q * mx::array(2.0f)}), mx::stack({k, k}), mx::stack({v, v})});
  EXPECT_LE(largest_difference(many[0], mx::stack({plain_attention(q, k, v, o),
                                                   plain_attention(q * mx::array(2.0f), k, v, o)})),
            5e-6f);
}

TEST(Attention, RefusesWhatDoesNotFit) {
  const auto q = mx::zeros({1, 4, 3, 8}), k = mx::zeros({1, 3, 5, 8}), k2 = mx::zeros({1, 2, 5, 8});
  EXPECT_THROW(attention(q, k, k, {}), Error);
  EXPECT_THROW(attention(q, k2, mx::zeros({1, 2, 4, 8}), {}), Error);
  EXPECT_THROW(attention(q, mx::zeros({1, 2, 5, 7}), k2, {}), Error);
  EXPECT_THROW(attention(mx::zeros({4, 3, 8}), k2, k2, {}), Error);
  EXPECT_THROW(attention(q, k2, k2, {.mask = mx::zeros({3, 4})}), Error);
  EXPECT_THROW(attention(q, k2, k2, {.sinks = mx::zeros({3})}), Error);
  EXPECT_THROW(attention(q, k2, k2, {.window = 0}), Error);
  EXPECT_THROW(attention(q, k2, k2, {.softcap = -1.0f}), Error);
}

}  // namespace
}  // namespace mlxcpp::kernels

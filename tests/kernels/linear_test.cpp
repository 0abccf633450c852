// Float matrix products against MLX's own in f64.

#include "kernels/linear.h"

#include <cmath>

#include <gtest/gtest.h>

#include "core/error.h"
#include "kernel_testing.h"

namespace mlxcpp::kernels {
namespace {

using namespace testing;

mx::array wide(const mx::array& x) { return mx::astype(x, mx::float64); }

// The product in f64 by broadcasting, since MLX multiplies no f64 matrices.
mx::array product(const mx::array& x, const mx::array& weight) {
  return mx::sum(mx::expand_dims(wide(x), -2) * wide(weight), -1);
}

// x, weight and bias of the given types, numbers about 1, sums about sqrt(K).
void check(const mx::array& x, const mx::array& weight, const std::optional<mx::array>& bias) {
  const auto y = linear(x, weight, bias);
  auto dtype = mx::promote_types(x.dtype(), weight.dtype());
  auto want = product(x, weight);
  if (bias) {
    dtype = mx::promote_types(dtype, bias->dtype());
    want = want + wide(*bias);
  }
  EXPECT_EQ(y.dtype(), dtype);
  // Rounding of the result, and of the f32 sums of K terms.
  const double sums = 2e-7 * std::sqrt(static_cast<double>(x.shape(-1)));
  expect_close(
      y, want, epsilon(dtype) + sums,
      fmt::format("[{}] by [{}]", fmt::join(x.shape(), ","), fmt::join(weight.shape(), ",")));
}

TEST(Linear, AllSizesAroundTheTiles) {
  for_each_isa([&] {
    for (const int m : {1, 2, 3, 5, 6, 7, 12, 13, 31, 125})
      for (const int n : {1, 3, 4, 8, 9, 50})
        for (const int k : {1, 5, 16, 31, 100})
          check(random({m, k}, mx::float32, 1), random({n, k}, mx::float32, 2), std::nullopt);
  });
}

TEST(Linear, AllTypes) {
  for_each_isa([&] {
    for (const mx::Dtype x : kFloatDtypes)
      for (const mx::Dtype w : kFloatDtypes)
        for (const mx::Dtype b : kFloatDtypes)
          for (const int m : {1, 4, 40})
            check(random({2, m, 77}, x, 1), random({19, 77}, w, 2), random({19}, b, 3));
  });
}

// Sums in several stretches.
TEST(Linear, LongRows) {
  for_each_isa([&] {
    for (const int m : {1, 7, 30})
      for (const int k : {1024, 1025, 3001})
        check(random({m, k}, mx::float32, 1), random({21, k}, mx::bfloat16, 2), std::nullopt);
  });
}

TEST(Linear, AnyLayout) {
  for_each_isa([&] {
    const auto w = random({24, 40}, mx::float32, 2);
    for (const int m : {1, 3, 25}) {
      // A part of a larger array, every second element, transposed, irregular rows, broadcast.
      check(mx::slice(random({m, 90}, mx::float32, 1), {0, 7}, {m, 47}), w, std::nullopt);
      check(mx::slice(random({m, 80}, mx::bfloat16, 1), {0, 0}, {m, 80}, {1, 2}), w, std::nullopt);
      check(mx::transpose(random({40, m}, mx::float32, 1)), w, std::nullopt);
      check(mx::transpose(random({2, m, 3, 40}, mx::float16, 1), {0, 2, 1, 3}), w, std::nullopt);
      check(mx::broadcast_to(random({1, 40}, mx::float32, 1), {m, 40}), w, std::nullopt);
      const auto x = random({m, 40}, mx::float32, 4);
      check(x, mx::transpose(random({40, 24}, mx::bfloat16, 2)), std::nullopt);
      check(x, mx::slice(random({48, 40}, mx::float32, 2), {47, 0}, {-49, 40}, {-2, 1}),
            mx::slice(random({48}, mx::float32, 3), {0}, {48}, {2}));
      check(x, mx::broadcast_to(random({1, 40}, mx::float32, 2), {24, 40}),
            mx::broadcast_to(mx::array(0.5f), {24}));
    }
    check(random({40}, mx::float32, 1), w, std::nullopt);
  });
}

TEST(Linear, EmptyOperands) {
  EXPECT_EQ(linear(mx::zeros({0, 8}), mx::zeros({3, 8})).shape(), (mx::Shape{0, 3}));
  EXPECT_EQ(values(linear(mx::zeros({2, 0}), mx::zeros({3, 0}), mx::ones({3}))),
            std::vector<double>(6, 1.0));
  EXPECT_EQ(linear(mx::zeros({2, 8}), mx::zeros({0, 8})).shape(), (mx::Shape{2, 0}));
}

TEST(Linear, Bf16KeepsItsRange) {
  // 1e20 is far beyond f16, and the products beyond 65,504.
  const auto x = mx::full({3, 64}, mx::array(1e20f, mx::bfloat16));
  const auto w = mx::full({5, 64}, mx::array(2.0f, mx::bfloat16));
  for_each_isa([&] {
    for (const double v : values(linear(x, w))) EXPECT_NEAR(v / 1.28e22, 1, 0.01);
  });
}

TEST(Linear, ARowIsTheSameAloneAndAmongOthers) {
  for_each_isa([&] {
    for (const mx::Dtype dtype : kFloatDtypes)
      for (const int k : {64, 100, 2500}) {
        const auto x = random({150, k}, dtype, 1), w = random({53, k}, dtype, 2);
        const auto all = linear(x, w);
        for (const int rows : {1, 2, 6, 11, 12, 13, 64}) {
          const auto some = linear(mx::slice(x, {20, 0}, {20 + rows, k}), w);
          EXPECT_TRUE(same_bits(some, mx::slice(all, {20, 0}, {20 + rows, 53}))) << rows;
        }
      }
  });
}

TEST(Linear, AnyThreadCountGivesTheSameBits) {
  for_each_isa([&] {
    const auto w = random({300, 1100}, mx::float32, 2);
    for (const int m : {1, 8, 130}) {
      const auto x = random({m, 1100}, mx::bfloat16, 1);
      expect_same_for_any_threads([&] { return linear(x, w); });
    }
  });
}

TEST(Linear, AnyOrderIsAsExact) {
  const AnyOrderScope scope;
  for_each_isa([&] {
    for (const int m : {1, 15, 16, 17, 40, 131})
      for (const int n : {1, 4, 7, 8, 9, 17, 50, 100})
        for (const int k : {1, 5, 31, 100})
          check(random({m, k}, mx::float32, 1), random({n, k}, mx::float32, 2), std::nullopt);
    // Several parts, blocks and stretches.
    for (const int k : {8, 700, 1281}) {
      const auto x = random({530, k}, mx::float32, 1), w = random({197, k}, mx::float32, 2);
      const auto b = random({197}, mx::float32, 3);
      expect_close(linear(x, w, b), mx::matmul(x, mx::transpose(w)) + b, 1e-5);
    }
    for (const mx::Dtype x : kFloatDtypes)
      for (const mx::Dtype w : kFloatDtypes)
        check(random({2, 20, 77}, x, 1), random({19, 77}, w, 2), random({19}, mx::float32, 3));
  });
}

TEST(Linear, AnyOrderOfAnyLayout) {
  const AnyOrderScope scope;
  for_each_isa([&] {
    const auto w = random({24, 256}, mx::float32, 2);
    for (const int m : {3, 25}) {
      // Rows that compete in the cache, a part of a larger array, transposed, irregular, broadcast.
      check(random({m, 256}, mx::float32, 1), w, std::nullopt);
      check(mx::slice(random({m, 290}, mx::float32, 1), {0, 7}, {m, 263}), w, std::nullopt);
      check(mx::transpose(random({256, m}, mx::float32, 1)), w, std::nullopt);
      check(mx::transpose(random({2, m, 3, 256}, mx::float32, 1), {0, 2, 1, 3}), w, std::nullopt);
      check(mx::broadcast_to(random({1, 256}, mx::float32, 1), {m, 256}), w, std::nullopt);
      const auto x = random({m, 256}, mx::float32, 4);
      check(mx::slice(x, {m - 1, 0}, {-m - 1, 256}, {-1, 1}), w, std::nullopt);
      check(x, mx::transpose(random({256, 24}, mx::float32, 2)), std::nullopt);
      check(x, mx::slice(random({48, 256}, mx::float32, 2), {47, 0}, {-49, 256}, {-2, 1}),
            std::nullopt);
    }
  });
  EXPECT_EQ(values(linear(mx::zeros({20, 0}), mx::zeros({3, 0}), mx::ones({3}))),
            std::vector<double>(60, 1.0));
}

TEST(Linear, AnyOrderIsTheSameForAnyThreads) {
  const AnyOrderScope scope;
  for_each_isa([&] {
    const auto w = random({300, 1100}, mx::float32, 2), x = random({600, 1100}, mx::float32, 1);
    expect_same_for_any_threads([&] { return linear(x, w); });
    expect_same_for_any_threads([&] {
      return kernels::matmul(mx::reshape(x, {3, 200, 1100}), mx::reshape(w, {3, 1100, 100}));
    });
  });
}

TEST(Linear, TheScopeEnds) {
  const auto x = random({64, 100}, mx::float32, 1), w = random({9, 100}, mx::float32, 2);
  const auto alone = linear(x, w);
  {
    const AnyOrderScope outer;
    {
      const AnyOrderScope inner;
    }
    EXPECT_TRUE(AnyOrderScope::active());
  }
  EXPECT_FALSE(AnyOrderScope::active());
  EXPECT_TRUE(same_bits(linear(x, w), alone));
}

TEST(LowRankLinear, IsTheSumOfBothProducts) {
  for_each_isa([&] {
    for (const int m : {1, 40})
      for (const mx::Dtype dtype : {mx::float32, mx::bfloat16}) {
        const auto x = random({2, m, 70}, dtype, 1), w = random({33, 70}, dtype, 2);
        const auto a = random({70, 4}, mx::float32, 3), b = random({4, 33}, mx::float32, 4);
        const auto bias = random({33}, dtype, 5);
        const auto base = linear(x, w, bias);
        const auto low = mx::matmul(mx::matmul(mx::astype(x, mx::float32), a), b);
        const auto want =
            mx::astype(base, mx::float32) + mx::astype(low * mx::array(2.5f), mx::float32);
        const auto y = low_rank_linear(x, w, bias, a, b, 2.5f);
        EXPECT_EQ(y.dtype(), dtype);
        expect_close(y, want, 4 * epsilon(dtype) + 1e-6);
      }
  });
  const auto zeros = [](const mx::Shape& s) { return mx::zeros(s); };
  const auto x = zeros({2, 8}), w = zeros({3, 8}), a = zeros({8, 2}), b = zeros({2, 3});
  EXPECT_THROW(low_rank_linear(zeros({2, 7}), w, {}, a, b, 1), Error);
  EXPECT_THROW(low_rank_linear(x, w, {}, zeros({7, 2}), b, 1), Error);
  EXPECT_THROW(low_rank_linear(x, w, {}, a, zeros({3, 3}), 1), Error);
  EXPECT_THROW(low_rank_linear(x, w, {}, a, zeros({2, 4}), 1), Error);
  EXPECT_THROW(low_rank_linear(x, w, zeros({4}), a, b, 1), Error);
}

TEST(Linear, Gradients) {
  const auto x = random({2, 3, 8}, mx::float32, 1), w = random({5, 8}, mx::float32, 2);
  const auto b = random({5}, mx::float32, 3), s = random({2, 3, 5}, mx::float32, 4);
  const auto grads = [&](auto f) {
    return mx::grad([&](const std::vector<mx::array>& in) { return mx::sum(f(in) * s); },
                    std::vector<int>{0, 1, 2})({x, w, b});
  };
  const auto got = grads([](const auto& in) { return linear(in[0], in[1], in[2]); });
  const auto want =
      grads([](const auto& in) { return mx::matmul(in[0], mx::transpose(in[1])) + in[2]; });
  for (size_t i = 0; i < 3; ++i) expect_close(got[i], want[i], 1e-5);
  // Mapped over the first axis, and twice differentiated.
  const auto mapped = mx::vmap([&](const mx::array& a) { return linear(a, w, b); })(x);
  expect_close(mapped, linear(x, w, b), 1e-5);
  const auto twice = mx::grad([&](const mx::array& a) {
    return mx::sum(mx::square(
        mx::grad([&](const mx::array& c) { return mx::sum(mx::square(linear(c, w))); })(a)));
  })(x);
  const auto twice_wanted = mx::grad([&](const mx::array& a) {
    return mx::sum(mx::square(mx::grad([&](const mx::array& c) {
      return mx::sum(mx::square(mx::matmul(c, mx::transpose(w))));
    })(a)));
  })(x);
  expect_close(twice, twice_wanted, 1e-4);
}

TEST(Linear, RefusesWrongShapes) {
  const auto x = mx::zeros({2, 8});
  EXPECT_THROW(linear(x, mx::zeros({3, 7})), Error);
  EXPECT_THROW(linear(x, mx::zeros({8})), Error);
  EXPECT_THROW(linear(mx::array(1.0f), mx::zeros({3, 1})), Error);
  EXPECT_THROW(linear(x, mx::zeros({3, 8}), mx::zeros({4})), Error);
  EXPECT_THROW(linear(x, mx::zeros({3, 8}), mx::zeros({1, 3})), Error);
}

TEST(Matmul, BatchesAndBroadcasts) {
  for_each_isa([&] {
    for (const auto& [a, b] :
         std::vector<std::pair<mx::Shape, mx::Shape>>{{{3, 4}, {4, 5}},
                                                      {{4}, {4, 5}},
                                                      {{3, 4}, {4}},
                                                      {{2, 3, 7, 20}, {2, 3, 20, 33}},
                                                      {{2, 1, 7, 20}, {3, 20, 33}},
                                                      {{5, 1, 20}, {5, 20, 40}},
                                                      {{2, 90, 30}, {30, 17}},
                                                      {{30, 20}, {4, 20, 9}}})
      for (const mx::Dtype dtype : kFloatDtypes) {
        const auto x = random(a, dtype, 1), y = random(b, dtype, 2);
        const auto z = kernels::matmul(x, y);
        EXPECT_EQ(z.dtype(), dtype);
        expect_close(z, mx::matmul(mx::astype(x, mx::float32), mx::astype(y, mx::float32)),
                     epsilon(dtype) + 1e-6);
      }
    // Transposed operands, as attention has them.
    const auto q = mx::transpose(random({2, 9, 4, 16}, mx::float32, 1), {0, 2, 1, 3});
    const auto k = mx::transpose(random({2, 11, 4, 16}, mx::float32, 2), {0, 2, 3, 1});
    expect_close(kernels::matmul(q, k), mx::matmul(q, k), 1e-6);
    expect_close(kernels::matmul(mx::swapaxes(k, -1, -2), mx::swapaxes(q, -1, -2)),
                 mx::matmul(mx::swapaxes(k, -1, -2), mx::swapaxes(q, -1, -2)), 1e-6);
  });
  EXPECT_THROW(kernels::matmul(mx::zeros({2, 3}), mx::zeros({2, 3})), Error);
  EXPECT_THROW(kernels::matmul(mx::array(1.0f), mx::zeros({2, 3})), Error);
}

TEST(Matmul, Gradients) {
  const auto a = random({2, 3, 8}, mx::float32, 1), b = random({1, 8, 5}, mx::float32, 2);
  const auto grads = [&](auto f) {
    return mx::grad(
        [&](const std::vector<mx::array>& in) { return mx::sum(mx::square(f(in[0], in[1]))); },
        std::vector<int>{0, 1})({a, b});
  };
  const auto got = grads([](const auto& x, const auto& y) { return kernels::matmul(x, y); });
  const auto want = grads([](const auto& x, const auto& y) { return mx::matmul(x, y); });
  for (size_t i = 0; i < 2; ++i) expect_close(got[i], want[i], 1e-5);
}

}  // namespace
}  // namespace mlxcpp::kernels

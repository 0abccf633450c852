// The loops alone: how exact their functions are, and that they keep to their memory.

#include "kernels/row_kernels.h"

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/isa.h"

namespace mlxcpp::kernels {
namespace {

constexpr size_t kF32 = 0, kBF16 = 1, kF16 = 2;

class RowKernelsTest : public ::testing::TestWithParam<Isa> {
 protected:
  RowKernelsTest() : before_(isa()) { set_isa(GetParam()); }
  ~RowKernelsTest() override { set_isa(before_); }
  const RowKernels& k() const { return row_kernels(); }

 private:
  Isa before_;
};

// |got - want| in units of the last place of want as f32, or of 1e-30 where want is smaller.
double ulps(float got, double want) {
  const auto w = static_cast<float>(want);
  if (std::isinf(w) || std::isinf(got)) return got == w ? 0 : INFINITY;
  const float a = std::max(std::abs(w), 1e-30f);
  return std::abs(static_cast<double>(got) - want) /
         (std::nextafter(a, INFINITY) - static_cast<double>(a));
}

// Numbers of all sizes, both signs, and a dense grid around zero.
std::vector<float> arguments() {
  std::vector<float> out{0.0f,    -0.0f, 1e-45f, -1e-38f, 100.0f,
                         -100.0f, 88.8f, -87.4f, 3e38f,   -3e38f};
  for (int i = -40000; i <= 40000; ++i) out.push_back(static_cast<float>(i) * 0.0005f);
  std::mt19937 random(7);
  for (int i = 0; i < 40000; ++i) {
    const float m = std::ldexp(1.0f + static_cast<float>(random() % 8388608) / 8388608,
                               static_cast<int>(random() % 40) - 33);
    out.push_back(random() % 2 == 0 ? m : -m);
  }
  return out;
}

double phi(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

TEST_P(RowKernelsTest, ActivationsAreExactToAFewUlps) {
  const auto x = arguments();
  std::vector<float> up(x.size(), 1.0f), y(x.size());
  const auto worst = [&](Activation a, auto want) {
    k().activation[static_cast<size_t>(a)][kF32](x.data(), up.data(), y.data(), x.size());
    double most = 0;
    for (size_t i = 0; i < x.size(); ++i) most = std::max(most, ulps(y[i], want(x[i])));
    return most;
  };
  const auto silu = [](double v) { return v / (1 + std::exp(-v)); };
  const auto gelu = [](double v) { return v * phi(v); };
  const auto approx = [&](double v) {
    return v / (1 + std::exp(-2 * std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
  };
  // An ulp of the argument of exp is many of its result: where there is no fused multiply-add, or
  // the argument is itself a rounded polynomial, the tail far below zero is less exact.
  EXPECT_LE(worst(Activation::silu, silu), 4);
  EXPECT_LE(worst(Activation::swiglu, silu), 4);
  EXPECT_LE(worst(Activation::gelu, gelu), GetParam() == Isa::generic ? 120 : 8);
  EXPECT_LE(worst(Activation::geglu, gelu), GetParam() == Isa::generic ? 120 : 8);
  EXPECT_LE(worst(Activation::gelu_approx, approx), 150);
  EXPECT_LE(worst(Activation::tanh, [](double v) { return std::tanh(v); }), 4);
  EXPECT_LE(worst(Activation::sigmoid, [](double v) { return 1 / (1 + std::exp(-v)); }), 4);
  EXPECT_EQ(worst(Activation::relu, [](double v) { return std::max(v, 0.0); }), 0);
}

TEST_P(RowKernelsTest, ExpOverTheWholeRange) {
  std::vector<float> x, y;
  for (int i = -110000; i <= 95000; ++i) x.push_back(static_cast<float>(i) * 0.001f);
  y.resize(x.size());
  k().exp_shifted[kF32](x.data(), y.data(), x.size(), 0, 1);
  for (size_t i = 0; i < x.size(); ++i) {
    const double want = std::exp(static_cast<double>(x[i]));
    ASSERT_LE(ulps(y[i], want), 2) << x[i];
  }
  const float special[] = {INFINITY, -INFINITY, NAN};
  float out[3];
  k().exp_shifted[kF32](special, out, 3, 0, 1);
  EXPECT_EQ(out[0], INFINITY);
  EXPECT_EQ(out[1], 0.0f);
  EXPECT_TRUE(std::isnan(out[2]));
}

TEST_P(RowKernelsTest, RopeTableIsExactForLongContexts) {
  const std::vector<float> freq = {1.0f, 0.7f,  0.1f, 3e-3f, 1e-5f, 0.33f, 0.9f,
                                   0.5f, 0.25f, 1.0f, 1.0f,  0.01f, 0.02f};
  std::vector<float> c(freq.size()), s(freq.size());
  for (const float position :
       {0.0f, 1.0f, -3.0f, 17.0f, 511.0f, 8191.0f, 131071.0f, 1048575.0f, 3e7f}) {
    k().rope_table(freq.data(), position, 2.0f, c.data(), s.data(), freq.size());
    for (size_t i = 0; i < freq.size(); ++i) {
      const float angle = position * freq[i];
      EXPECT_NEAR(c[i], 2 * std::cos(static_cast<double>(angle)), 4e-7) << angle;
      EXPECT_NEAR(s[i], 2 * std::sin(static_cast<double>(angle)), 4e-7) << angle;
    }
  }
}

// Halves are converted as the processor does: all of them, there and back.
TEST_P(RowKernelsTest, ConversionsKeepEveryHalf) {
  for (const size_t type : {kBF16, kF16}) {
    std::vector<uint16_t> all(65536), out(65536);
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
    // (x - 0) - 0 in f32
    k().subtract[type](all.data(), out.data(), all.size(), 0, 0);
    for (size_t i = 0; i < all.size(); ++i) {
      const uint16_t exponent = type == kBF16 ? 0x7f80 : 0x7c00;
      const bool nan = (all[i] & exponent) == exponent && (all[i] & ~exponent & 0x7fff) != 0;
      if (nan)
        EXPECT_TRUE((out[i] & exponent) == exponent && (out[i] & ~exponent & 0x7fff) != 0) << i;
      else
        ASSERT_EQ(out[i], all[i]) << type;
    }
  }
}

// A number between two halves goes to the nearer, or to the even one.
TEST_P(RowKernelsTest, RoundingIsToNearestEven) {
  // 1 + j ulp + {1/4, 1/2, 3/4} ulp, by subtraction from a half.
  for (const size_t type : {kBF16, kF16}) {
    const double ulp = type == kBF16 ? 0x1p-7 : 0x1p-10;
    const auto bits = [&](int j) {
      return static_cast<uint16_t>((type == kBF16 ? 0x3f80 : 0x3c00) + j);
    };
    for (int j = 0; j < 9; ++j)
      for (const double part : {0.25, 0.5, 0.75}) {
        std::vector<uint16_t> x(19, bits(j)), y(19);
        k().subtract[type](x.data(), y.data(), x.size(), static_cast<float>(-part * ulp), 0);
        const int want = part < 0.5 ? j : part > 0.5 ? j + 1 : j + j % 2;
        for (const uint16_t v : y) EXPECT_EQ(v, bits(want));
      }
  }
}

// Sizes around the vector lengths: all elements are written, none beyond the end.
TEST_P(RowKernelsTest, StaysInBounds) {
  for (size_t n = 1; n < 70; ++n)
    for (size_t type = 0; type < kFloatTypes; ++type) {
      const size_t item = type == kF32 ? 4 : 2;
      const std::vector<std::byte> zeros(n * item);
      const auto check = [&](auto run) {
        std::vector<std::byte> y(n * item + 16, std::byte{0x5a});
        run(y.data());
        for (size_t i = 0; i < n * item; i += item) EXPECT_NE(y[i + item - 1], std::byte{0x5a});
        for (size_t i = n * item; i < y.size(); ++i) EXPECT_EQ(y[i], std::byte{0x5a});
      };
      check([&](void* y) { k().activation[0][type](zeros.data(), nullptr, y, n); });
      check([&](void* y) { k().rms_norm[type](zeros.data(), nullptr, y, n, 1e-5f); });
      check([&](void* y) { k().layer_norm[type](zeros.data(), nullptr, nullptr, y, n, 1e-5f); });
      check([&](void* y) { k().exp_shifted[type](zeros.data(), y, n, 0, 1); });
      const std::vector<float> table(n, 1.0f);
      if (n % 2 == 0) {
        check([&](void* y) {
          k().rotate_pairs[type](zeros.data(), table.data(), table.data(), y, n / 2);
        });
        check([&](void* y) {
          k().rotate_halves[type](zeros.data(), zeros.data() + n / 2 * item, table.data(),
                                  table.data(), y, static_cast<std::byte*>(y) + n / 2 * item,
                                  n / 2);
        });
      }
    }
}

INSTANTIATE_TEST_SUITE_P(Sets, RowKernelsTest, ::testing::ValuesIn(available_isas()),
                         [](const auto& info) { return std::string(name(info.param)); });

}  // namespace
}  // namespace mlxcpp::kernels

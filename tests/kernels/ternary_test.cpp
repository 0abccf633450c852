// Products with packed ternary matrices against the same by plain operations.

#include "kernels/ternary.h"

#include <limits>

#include <gtest/gtest.h>

#include "core/error.h"
#include "kernel_testing.h"
#include "kernels/precision.h"

namespace mlxcpp::kernels {
namespace {

using namespace testing;

// Codes 0, 1, 2 in two bits each, four rows in a byte.
mx::array random_packed(int rows, int cols, uint64_t seed) {
  const auto codes =
      mx::random::randint(0, 3, {4, rows / 4, cols}, mx::int32, mx::random::key(seed));
  const auto shifts = mx::reshape(mx::array({1, 4, 16, 64}), {4, 1, 1});
  return mx::astype(mx::sum(codes * shifts, 0), mx::uint8);
}

TEST(Ternary, UnpacksFourRowsOfAByte) {
  // Bits 2j and 2j + 1 are row j of four: 1 + 4 * 0 + 16 * 2 + 64 * 1.
  const auto w = unpack_ternary(mx::array({97}, {1, 1}, mx::uint8), mx::float32);
  EXPECT_EQ(w.shape(), (mx::Shape{4, 1}));
  EXPECT_EQ(values(w), (std::vector<double>{0, -1, 1, 0}));
}

TEST(Ternary, AllSizes) {
  const auto scale = mx::array({0.37f});
  const PrecisionScope exact(Precision::exact);
  for_each_isa([&] {
    for (const int m : {1, 2, 3, 5, 11, 40})
      for (const int n : {4, 12, 68})
        for (const int k : {1, 7, 16, 33, 128}) {
          const auto x = random({m, k}, mx::float32, 1);
          const auto packed = random_packed(n, k, 2);
          const auto want =
              mx::matmul(x, mx::transpose(unpack_ternary(packed, mx::float32))) * scale;
          expect_close(ternary_matmul(x, packed, scale), want, 1e-5,
                       fmt::format("{} {} {}", m, n, k));
        }
  });
}

TEST(Ternary, AllTypesAndLayouts) {
  const PrecisionScope exact(Precision::exact);
  const auto packed = random_packed(16, 24, 3);
  const auto w = mx::transpose(unpack_ternary(packed, mx::float32));
  for (const mx::Dtype dtype : kFloatDtypes) {
    const auto x = mx::swapaxes(random({2, 24, 5}, dtype, 4), 1, 2);
    const auto y = ternary_matmul(x, packed, mx::array({2.0f}));
    EXPECT_EQ(y.dtype(), dtype);
    expect_close(y, mx::matmul(mx::astype(x, mx::float32), w) * mx::array(2.0f),
                 4 * epsilon(dtype));
  }
}

// kernels/precision.h: about 5e-3 and 1e-4, the root of the mean square next to the length of x.
TEST(Ternary, RoundedActivations) {
  const auto scale = mx::array({0.37f});
  for (const auto& [p, tolerance] : {std::pair(Precision::high, 1e-4), {Precision::fast, 1e-2}}) {
    const PrecisionScope scope(p);
    for_each_isa([&] {
      for (const int m : {1, 3, 17, 40})
        for (const int n : {4, 68})
          for (const int k : {1, 33, 128, 1000, 2100}) {
            const auto x = random({m, k}, mx::float32, 1);
            const auto packed = random_packed(n, k, 2);
            const auto want =
                mx::matmul(x, mx::transpose(unpack_ternary(packed, mx::float32))) * scale;
            const auto size = mx::sqrt(mx::sum(mx::square(x), -1, true)) * scale;
            auto error =
                mx::sqrt(mx::mean(mx::square((ternary_matmul(x, packed, scale) - want) / size)));
            EXPECT_LE(error.item<float>(), tolerance) << fmt::format("{} {} {}", m, n, k);
          }
    });
  }
}

TEST(Ternary, RoundedRowsWithoutAScale) {
  const auto packed = random_packed(8, 40, 2);
  const PrecisionScope scope(Precision::high);
  for_each_isa([&] {
    const auto zeros = ternary_matmul(mx::zeros({2, 40}), packed, mx::array({1.0f}));
    EXPECT_EQ(mx::max(mx::abs(zeros)).item<float>(), 0);
    for (const float bad :
         {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
      auto x = mx::ones({1, 40});
      x = mx::slice_update(x, mx::array({bad}, {1, 1}), mx::Shape{0, 13}, mx::Shape{1, 14});
      const auto y = ternary_matmul(x, packed, mx::array({1.0f}));
      EXPECT_TRUE(mx::all(mx::isnan(y)).item<bool>());
    }
  });
}

TEST(Ternary, RowsThatAreNotFiniteLeaveOthersAlone) {
  const auto packed = random_packed(8, 40, 2);
  const PrecisionScope scope(Precision::high);
  for_each_isa([&] {
    const auto x = random({24, 40}, mx::float32, 5);
    const auto bad =
        mx::slice_update(x, mx::array({std::numeric_limits<float>::infinity()}, {1, 1}),
                         mx::Shape{9, 13}, mx::Shape{10, 14});
    auto want = values(ternary_matmul(x, packed, mx::array({1.0f})));
    auto got = values(ternary_matmul(bad, packed, mx::array({1.0f})));
    for (int j = 0; j < 8; ++j) {
      EXPECT_TRUE(std::isnan(got[9 * 8 + j]));
      got[9 * 8 + j] = want[9 * 8 + j];
    }
    EXPECT_EQ(got, want);
  });
}

TEST(Ternary, AnyCodeFits) {  // 3 is not used, but may be in a file
  const auto packed = mx::full({2, 1030}, 255, mx::uint8);
  const PrecisionScope scope(Precision::high);
  for_each_isa([&] {
    for (const int m : {1, 4, 40}) {
      const auto y = ternary_matmul(mx::ones({m, 1030}), packed, mx::array({1.0f}));
      EXPECT_NEAR(mx::max(y).item<float>(), 2060, 0.5);
      EXPECT_NEAR(mx::min(y).item<float>(), 2060, 0.5);
    }
  });
}

// Many rows go by tables of sums, few another way: whole numbers are added in both.
TEST(Ternary, RowsDoNotDependOnTheirNumber) {
  for (const Precision p : {Precision::high, Precision::fast}) {
    const PrecisionScope scope(p);
    for_each_isa([&] {
      for (const int n : {4, 20, 300})
        for (const int k : {1, 31, 50, 128, 1100}) {
          const auto packed = random_packed(n, k, 6);
          const auto x = random({60, k}, mx::float32, 5);
          std::vector<double> want;
          for (int r = 0; r < x.shape(0); ++r) {
            const auto one =
                values(ternary_matmul(mx::slice(x, {r, 0}, {r + 1, k}), packed, mx::array({0.7f})));
            want.insert(want.end(), one.begin(), one.end());
          }
          for (const int m : {2, 4, 11, 12, 13, 16, 21, 27, 32, 60}) {
            const auto all =
                values(ternary_matmul(mx::slice(x, {0, 0}, {m, k}), packed, mx::array({0.7f})));
            ASSERT_EQ(all, std::vector<double>(want.begin(), want.begin() + m * n))
                << fmt::format("{} {} {}", m, n, k);
          }
        }
    });
  }
}

TEST(Ternary, ThreadsMakeNoDifference) {
  const auto packed = random_packed(2400, 96, 6);
  const auto x = random({37, 96}, mx::float32, 5);
  expect_same_for_any_threads([&] { return ternary_matmul(x, packed, mx::array({0.7f})); });
}

TEST(Ternary, GradientOfX) {
  const auto packed = random_packed(8, 12, 7);
  const auto f = [&](const mx::array& x) {
    return mx::sum(ternary_matmul(x, packed, mx::array({0.5f})));
  };
  const PrecisionScope exact(Precision::exact);
  const auto got = mx::grad(f)(random({3, 12}, mx::float32, 8));
  const auto rows = mx::sum(unpack_ternary(packed, mx::float32), 0, true) * mx::array(0.5f);
  expect_close(got, mx::broadcast_to(rows, {3, 12}), 1e-6);
}

TEST(Ternary, RefusesShapesThatDoNotFit) {
  const auto packed = random_packed(8, 12, 9);
  EXPECT_THROW(ternary_matmul(mx::ones({2, 11}), packed, mx::array({1.0f})), Error);
  EXPECT_THROW(ternary_matmul(mx::ones({2, 12}), packed, mx::ones({2})), Error);
  EXPECT_THROW(ternary_matmul(mx::ones({2, 12}), mx::ones({2, 12}), mx::array({1.0f})), Error);
}

}  // namespace
}  // namespace mlxcpp::kernels

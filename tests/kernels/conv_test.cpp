// Convolution, group norm and the image operations against MLX's own in f32 and plain sums in f64.

#include "kernels/conv.h"

#include <cmath>

#include <gtest/gtest.h>

#include "core/error.h"
#include "kernel_testing.h"
#include "kernels/group_norm.h"
#include "kernels/image.h"
#include "kernels/linear.h"
#include "support/throws.h"

namespace mlxcpp::kernels {
namespace {

using namespace testing;
using test::error_of;
using ::testing::HasSubstr;

// The sums in f64: taps cut out of the padded picture, times the weights. One group.
mx::array reference(const mx::array& x, const mx::array& w, const Conv2dOptions& o,
                    const ConvAddends& add) {
  const auto wide = [](const mx::array& a) { return mx::astype(a, mx::float64); };
  const auto end = o.padding_end.value_or(o.padding);
  const auto padded =
      mx::pad(wide(x), {{0, 0}, {o.padding[0], end[0]}, {o.padding[1], end[1]}, {0, 0}});
  const int kh = w.shape(1), kw = w.shape(2);
  const int h = (padded.shape(1) - o.dilation[0] * (kh - 1) - 1) / o.stride[0] + 1;
  const int v = (padded.shape(2) - o.dilation[1] * (kw - 1) - 1) / o.stride[1] + 1;
  const int in = w.shape(3), out = w.shape(0) / o.groups;
  std::vector<mx::array> groups;
  for (int g = 0; g < o.groups; ++g) {
    auto sum = mx::zeros({x.shape(0), h, v, out}, mx::float64);
    for (int y = 0; y < kh; ++y)
      for (int c = 0; c < kw; ++c) {
        const int top = y * o.dilation[0], left = c * o.dilation[1];
        const auto tap = mx::slice(padded, {0, top, left, g * in},
                                   {x.shape(0), top + (h - 1) * o.stride[0] + 1,
                                    left + (v - 1) * o.stride[1] + 1, (g + 1) * in},
                                   {1, o.stride[0], o.stride[1], 1});
        const auto weight = mx::reshape(
            mx::slice(wide(w), {g * out, y, c, 0}, {(g + 1) * out, y + 1, c + 1, in}), {out, in});
        sum = sum + mx::sum(mx::expand_dims(tap, -2) * weight, -1);
      }
    groups.push_back(sum);
  }
  auto sum = mx::concatenate(groups, 3);
  if (add.bias) sum = sum + wide(*add.bias);
  if (add.shift) sum = sum + mx::expand_dims(wide(*add.shift), {1, 2});
  return add.residual ? sum + wide(*add.residual) : sum;
}

// tolerance: of f32 sums, in shares of the largest result; the result's rounding comes on top.
void check(const mx::array& x, const mx::array& w, const Conv2dOptions& o,
           const ConvAddends& add = {}, double tolerance = 2e-6) {
  const auto y = kernels::conv2d(x, w, o, add);
  expect_close(y, reference(x, w, o, add), tolerance + epsilon(y.dtype()),
               fmt::format("[{}] by [{}], stride {}, padding {}", fmt::join(x.shape(), ","),
                           fmt::join(w.shape(), ","), o.stride[0], o.padding[0]));
}

// Weights whose sums over C channels are about 1.
mx::array weights(const mx::Shape& shape, mx::Dtype dtype, uint64_t seed) {
  const int terms = shape[1] * shape[2] * shape[3];
  return random(shape, dtype, seed, 1 / std::sqrt(static_cast<float>(terms)));
}

TEST(Conv2d, SizesStridesPaddingsDilations) {
  for_each_isa([] {
    for (const int kernel : {1, 2, 3, 5})
      for (const int stride : {1, 2})
        for (const int padding : {0, 1, 2})
          for (const int dilation : {1, 2})
            check(random({2, 9, 11, 6}, mx::float32, 1),
                  weights({5, kernel, kernel, 6}, mx::float32, 2),
                  {.stride = {stride, stride},
                   .padding = {padding, padding},
                   .dilation = {dilation, dilation}});
    check(random({1, 7, 20, 3}, mx::float32, 1), weights({40, 3, 1, 3}, mx::float32, 2),
          {.stride = {1, 2}, .padding = {2, 0}});
  });
}

// As strided layers of TensorFlow have it: more zeros at the end, or none. Depthwise, direct and by
// Winograd's way.
TEST(Conv2d, PaddingThatDiffersAtTheEnd) {
  for_each_isa([] {
    for (const auto& [before, after] : {std::pair(0, 1), {1, 2}, {2, 0}})
      for (const int stride : {1, 2}) {
        const Conv2dOptions o{.stride = {stride, stride},
                              .padding = {before, 0},
                              .padding_end = std::array{after, before}};
        check(random({2, 9, 12, 6}, mx::float32, 1), weights({5, 3, 3, 6}, mx::float32, 2), o);
        check(random({1, 20, 24, 48}, mx::float32, 1), weights({48, 3, 3, 48}, mx::float32, 2), o,
              {}, 2e-5);
        Conv2dOptions depthwise = o;
        depthwise.groups = 12;
        const auto x = random({2, 9, 7, 12}, mx::float32, 1);
        const auto w = weights({12, 5, 3, 1}, mx::float32, 2);
        check(x, w, depthwise);
        const auto loss = [&](const mx::array& a) { return mx::sum(conv2d(a, w, depthwise)); };
        EXPECT_EQ(mx::grad(loss)(x).shape(), x.shape());
      }
  });
  EXPECT_THAT(error_of([] {
                conv2d(mx::zeros({1, 4, 4, 2}), mx::zeros({2, 3, 3, 2}),
                       {.padding_end = std::array{-1, 0}});
              }),
              HasSubstr("padding 0 and -1"));
}

TEST(Conv2d, AllTypesWithAllAddends) {
  for_each_isa([] {
    for (const mx::Dtype xt : kFloatDtypes)
      for (const mx::Dtype wt : kFloatDtypes)
        for (const int channels : {4, 7}) {
          const ConvAddends add{.bias = random({33}, wt, 3),
                                .shift = random({2, 33}, xt, 4),
                                .residual = random({2, 6, 5, 33}, xt, 5)};
          check(random({2, 6, 5, channels}, xt, 1), weights({33, 3, 3, channels}, wt, 2),
                {.padding = {1, 1}}, add);
        }
  });
}

TEST(Conv2d, Groups) {
  for_each_isa([] {
    for (const mx::Dtype dtype : kFloatDtypes) {
      check(random({2, 8, 8, 12}, dtype, 1), weights({18, 3, 3, 4}, dtype, 2),
            {.padding = {1, 1}, .groups = 3}, {.bias = random({18}, dtype, 3)});
      // depthwise
      check(random({2, 9, 7, 37}, dtype, 1), weights({37, 3, 3, 1}, dtype, 2),
            {.stride = {2, 2}, .padding = {1, 1}, .groups = 37}, {.bias = random({37}, dtype, 3)});
    }
  });
}

// 3x3 at stride 1 and 32 channels or more goes by Winograd: its error is some times that of sums.
TEST(Conv2d, Winograd) {
  constexpr double kTolerance = 2e-5;
  for_each_isa([] {
    for (const mx::Dtype dtype : kFloatDtypes)
      for (const int channels : {32, 70, 300})
        check(random({2, 17, 14, channels}, dtype, 1), weights({45, 3, 3, channels}, dtype, 2),
              {.padding = {1, 1}},
              {.bias = random({45}, dtype, 3),
               .shift = random({2, 45}, dtype, 4),
               .residual = random({2, 17, 14, 45}, dtype, 5)},
              kTolerance);
    check(random({1, 40, 16, 64}, mx::float32, 1), weights({32, 3, 3, 64}, mx::float32, 2), {}, {},
          kTolerance);
    check(random({1, 16, 16, 32}, mx::float32, 1), weights({32, 3, 3, 32}, mx::float32, 2),
          {.padding = {2, 0}}, {}, kTolerance);
  });
}

TEST(Conv2d, SameBitsForAnyThreads) {
  for (const mx::Dtype dtype : kFloatDtypes)
    for (const int channels : {8, 64}) {
      const auto x = random({2, 20, 20, channels}, dtype, 1);
      const auto w = weights({70, 3, 3, channels}, dtype, 2);
      expect_same_for_any_threads([&] { return kernels::conv2d(x, w, {.padding = {1, 1}}); });
      expect_same_for_any_threads([&] { return kernels::conv2d(x, w, {.stride = {2, 2}}); });
    }
}

// bf16 holds what f16 does not: nothing on the way may.
TEST(Conv2d, Bf16BeyondTheRangeOfF16) {
  for_each_isa([] {
    for (const int channels : {8, 64}) {
      const auto x = mx::full({1, 16, 16, channels}, 1e6f, mx::bfloat16);
      const auto w = mx::full({64, 3, 3, channels}, 1.0f, mx::bfloat16);
      check(x, w, {.padding = {1, 1}});
    }
    const auto y = linear(mx::full({40, 64}, 1e6f, mx::bfloat16), mx::ones({50, 64}, mx::bfloat16));
    expect_close(y, mx::full({40, 50}, 64e6f), 0x1p-7);
  });
}

TEST(Conv2d, StridedArrays) {
  const auto x = mx::transpose(random({2, 5, 9, 8}, mx::float32, 1), {0, 2, 3, 1});
  const auto w = mx::transpose(weights({6, 3, 3, 5}, mx::float32, 2), {0, 2, 1, 3});
  check(x, w, {.padding = {1, 1}});
}

TEST(Conv2d, Gradients) {
  const auto x = random({1, 6, 6, 4}, mx::float32, 1), w = weights({3, 3, 3, 4}, mx::float32, 2);
  const auto loss = [](const std::vector<mx::array>& in) {
    return mx::sum(mx::square(kernels::conv2d(in[0], in[1], {.padding = {1, 1}})));
  };
  const auto plain = [](const std::vector<mx::array>& in) {
    return mx::sum(mx::square(mx::conv2d(in[0], in[1], {1, 1}, {1, 1})));
  };
  const auto got = mx::grad(loss, {0, 1})({x, w}), want = mx::grad(plain, {0, 1})({x, w});
  for (size_t i = 0; i < 2; ++i) expect_close(got[i], want[i], 1e-5);
}

TEST(Conv2d, Errors) {
  const auto x = mx::zeros({1, 4, 4, 3});
  EXPECT_THAT(error_of([&] { kernels::conv2d(x, mx::zeros({2, 3, 3, 4})); }),
              HasSubstr("do not fit"));
  EXPECT_THAT(error_of([&] { kernels::conv2d(x, mx::zeros({2, 5, 5, 3})); }),
              HasSubstr("smaller than the filter"));
  EXPECT_THAT(error_of([&] { kernels::conv2d(x, mx::zeros({2, 3, 3, 3}), {.stride = {0, 1}}); }),
              HasSubstr("stride"));
  EXPECT_THAT(error_of([&] {
                kernels::conv2d(x, mx::zeros({2, 3, 3, 3}), {},
                                {.residual = mx::zeros({1, 4, 4, 2})});
              }),
              HasSubstr("expected residual [1, 2, 2, 2]"));
}

// Products of bf16 pairs.
TEST(Linear, Bf16ByBf16) {
  for_each_isa([] {
    for (const int m : {13, 100})
      for (const int n : {5, 64, 70})
        for (const int k : {2, 7, 64, 1030}) {
          const auto x = random({m, k}, mx::bfloat16, 1), w = random({n, k}, mx::bfloat16, 2);
          const auto wide = [](const mx::array& a) { return mx::astype(a, mx::float64); };
          expect_close(linear(x, w), mx::sum(mx::expand_dims(wide(x), 1) * wide(w), -1), 0x1p-8);
        }
  });
}

mx::array group_norm_reference(const mx::array& x, int groups, const mx::array& weight,
                               const mx::array& bias, double eps, bool silu) {
  const int n = x.shape(0), c = x.shape(-1);
  const auto wide = [](const mx::array& a) { return mx::astype(a, mx::float64); };
  const auto g = mx::reshape(wide(x), {n, -1, groups, c / groups});
  const auto mean = mx::mean(g, {1, 3}, true);
  const auto var = mx::mean(mx::square(g - mean), {1, 3}, true);
  auto y = mx::reshape((g - mean) / mx::sqrt(var + mx::array(eps, mx::float64)), x.shape());
  y = y * wide(weight) + wide(bias);
  return silu ? y / (mx::array(1.0, mx::float64) + mx::exp(mx::negative(y))) : y;
}

TEST(GroupNorm, AllTypesAndSizes) {
  for_each_isa([] {
    for (const mx::Dtype dtype : kFloatDtypes)
      for (const auto& [shape, groups] : {std::pair(mx::Shape{2, 5, 7, 12}, 4),
                                          {mx::Shape{1, 3, 40}, 40},
                                          {mx::Shape{1, 64, 64, 64}, 32},
                                          {mx::Shape{3, 10, 320}, 1}})
        for (const bool silu : {false, true}) {
          const auto x = random(shape, dtype, 1) * mx::array(2.0f, dtype) + mx::array(3.0f, dtype);
          const auto w = random({shape.back()}, dtype, 2), b = random({shape.back()}, dtype, 3);
          const auto y = group_norm(x, groups, w, b, 1e-5f, silu);
          EXPECT_EQ(y.dtype(), dtype);
          expect_close(y, group_norm_reference(x, groups, w, b, 1e-5, silu), epsilon(dtype) + 4e-6);
        }
  });
}

// A mean far above the deviation.
TEST(GroupNorm, KeepsSmallDifferences) {
  for_each_isa([] {
    const auto x = random({1, 4096, 8}, mx::float32, 1) + mx::array(1000.0f);
    const auto one = mx::ones({8}), none = mx::zeros({8});
    expect_close(group_norm(x, 2, one, none, 1e-6f),
                 group_norm_reference(x, 2, one, none, 1e-6, false), 5e-5);
  });
}

TEST(GroupNorm, SameBitsForAnyThreads) {
  const auto x = random({2, 1000, 64}, mx::float32, 1);
  expect_same_for_any_threads(
      [&] { return group_norm(x, 8, mx::ones({64}), mx::zeros({64}), 1e-5f, true); });
}

TEST(GroupNorm, Errors) {
  EXPECT_THAT(
      error_of([] { group_norm(mx::zeros({1, 2, 6}), 4, mx::ones({6}), mx::ones({6}), 0); }),
      HasSubstr("multiple of 4"));
  EXPECT_THAT(
      error_of([] { group_norm(mx::zeros({1, 2, 6}), 3, mx::ones({5}), mx::ones({6}), 0); }),
      HasSubstr("[6]"));
}

TEST(ResizeNearest, AsIndices) {
  const auto x = random({2, 3, 5, 4}, mx::float16, 1);
  const auto twice = resize_nearest(x, 6, 10);
  EXPECT_TRUE(same_bits(twice, mx::repeat(mx::repeat(x, 2, 1), 2, 2)));
  const auto odd = resize_nearest(x, 5, 7);
  const auto rows = mx::array({0, 0, 1, 1, 2}), columns = mx::array({0, 0, 1, 2, 2, 3, 4});
  EXPECT_TRUE(same_bits(odd, mx::take(mx::take(x, rows, 1), columns, 2)));
  EXPECT_THAT(error_of([&] { resize_nearest(x, 0, 5); }), HasSubstr("resize_nearest"));
}

TEST(JoinChannels, AsConcatenate) {
  const auto a = random({2, 3, 5, 4}, mx::bfloat16, 1);
  const auto b = mx::transpose(random({2, 7, 3, 5}, mx::bfloat16, 2), {0, 2, 3, 1});
  EXPECT_TRUE(same_bits(join_channels({a, b, a}), mx::concatenate({a, b, a}, 3)));
  EXPECT_THAT(error_of([&] { join_channels({a, mx::zeros({2, 3, 4, 4}, mx::bfloat16)}); }),
              HasSubstr("beside"));
}

}  // namespace
}  // namespace mlxcpp::kernels

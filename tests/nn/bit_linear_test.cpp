#include "nn/bit_linear.h"

#include <gtest/gtest.h>

#include "kernels/precision.h"
#include "near.h"
#include "nn/quantized.h"

namespace mlxcpp::nn {
namespace {

using test::near;

// A layer of 64 inputs and 8 outputs with codes 0, 1, 2 everywhere.
std::unique_ptr<BitLinear> layer(const BitLinear::Options& options = {}, bool with_bias = false) {
  auto out = std::make_unique<BitLinear>(64, 8, with_bias, options);
  const auto codes = mx::random::randint(0, 3, {4, 2, 64}, mx::int32, mx::random::key(1));
  const auto shifts = mx::reshape(mx::array({1, 4, 16, 64}), {4, 1, 1});
  out->weight.set(mx::astype(mx::sum(codes * shifts, 0), mx::uint8));
  out->weight_scale.set(mx::array({0.25f}));
  if (with_bias) out->bias.set(mx::random::normal({8}, mx::float32, 0, 1, mx::random::key(2)));
  return out;
}

mx::array input() { return mx::random::normal({2, 3, 64}, mx::float32, 0, 1, mx::random::key(3)); }

mx::array through(const Module& m, const mx::array& x) { return dynamic_cast<const Layer&>(m)(x); }

TEST(BitLinear, EqualsItsDequantisedWeights) {
  const auto bits = layer({}, true);
  const kernels::PrecisionScope exact(kernels::Precision::exact);
  EXPECT_TRUE(near((*bits)(input()), through(*bits->dequantized(mx::float32), input())));
  EXPECT_EQ(bits->num_parameters(), 64u * 8 + 8 + 0);
}

TEST(BitLinear, HasMlxsTwoBitForm) {
  const auto bits = layer();
  const kernels::PrecisionScope exact(kernels::Precision::exact);
  const QuantizedLinear affine(bits->matrix(), std::nullopt);
  EXPECT_TRUE(near(affine(input()), (*bits)(input())));
}

TEST(BitLinear, TheScaleMayBeInverse) {
  const auto bits = layer(), inverse = layer({.inverse_scale = true});
  inverse->weight_scale.set(mx::array({4.0f}));
  EXPECT_TRUE(near((*inverse)(input()), (*bits)(input())));
}

TEST(BitLinear, ActivationsAsInt8) {
  const auto rounding = layer({.quantize_activations = true});
  // Multiples of 1/127 of the largest stay as they are.
  const auto whole = mx::astype(
      mx::random::randint(-127, 127, {3, 64}, mx::int32, mx::random::key(4)), mx::float32);
  const auto x = mx::concatenate({whole, mx::full({3, 1}, 127.0f)}, 1);
  const auto in = mx::slice(x, {0, 1}, {3, 65});
  EXPECT_TRUE(near((*rounding)(in), (*layer())(in), 1e-4f));
  EXPECT_FALSE(near((*rounding)(input()), (*layer())(input()), 1e-4f));
  EXPECT_TRUE(near((*rounding)(mx::zeros({1, 64})), mx::zeros({1, 8})));
  const auto switched = layer();
  switched->quantize_activations(true);
  EXPECT_TRUE(mx::array_equal((*switched)(input()), (*rounding)(input())).item<bool>());
}

struct Tree final : Module {
  Child<Linear> in{this, "in", 64, 8, true}, out{this, "out", 8, 4};
};

TEST(BitLinear, TakesThePlaceOfEqualTwoBits) {
  const auto bits = layer({}, true);
  Tree m;
  auto other = bits->matrix();
  other.scales =
      mx::slice_update(*other.scales, mx::array({0.5f}, {1, 1}), mx::Shape{3, 1}, mx::Shape{4, 2});
  m.replace("in", std::make_unique<QuantizedLinear>(bits->matrix(), *bits->bias));
  make_ternary_where_equal(m);
  const auto* in = dynamic_cast<const BitLinear*>(&m.at("in"));
  ASSERT_TRUE(in);
  EXPECT_TRUE(mx::array_equal(*in->weight, *bits->weight).item<bool>());
  EXPECT_TRUE(mx::array_equal((*in)(input()), (*bits)(input())).item<bool>());
  EXPECT_FALSE(dynamic_cast<BitLinear*>(&m.at("out")));  // floats
  m.replace("in", std::make_unique<QuantizedLinear>(other, std::nullopt));
  make_ternary_where_equal(m);
  EXPECT_FALSE(dynamic_cast<BitLinear*>(&m.at("in")));
  other = bits->matrix();
  other.biases = mx::negative(*other.biases);
  m.replace("in", std::make_unique<QuantizedLinear>(other, std::nullopt));
  make_ternary_where_equal(m);
  EXPECT_FALSE(dynamic_cast<BitLinear*>(&m.at("in")));
}

TEST(BitLinear, TakesThePlaceOfLinearLayers) {
  Tree m;
  make_ternary(m, "in", {});
  EXPECT_TRUE(dynamic_cast<BitLinear*>(&m.at("in")));
  EXPECT_FALSE(dynamic_cast<BitLinear*>(&m.at("out")));
  EXPECT_TRUE(m.parameters().contains("in.weight_scale"));
  EXPECT_TRUE(m.parameters().contains("in.bias"));
  // Quantised already: only the other layer would be.
  std::vector<std::string> asked;
  quantize_weights(m, [&](const std::string& path, const Module&) {
    asked.push_back(path);
    return std::optional<kernels::QuantType>();
  });
  EXPECT_EQ(asked, std::vector<std::string>{"out"});
}

TEST(BitLinear, RefusesOutputsThatDoNotFillBytes) {
  EXPECT_THROW(BitLinear(8, 6, false, {}), Error);
}

}  // namespace
}  // namespace mlxcpp::nn

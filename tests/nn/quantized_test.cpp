#include "nn/quantized.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/precision.h"
#include "near.h"

namespace mlxcpp::nn {
namespace {

using kernels::QuantMode;
using kernels::QuantType;
using test::near;
using ::testing::HasSubstr;

struct Tiny final : Module {
  Child<Embedding> embed{this, "embed", 8, 128};
  Child<Linear> up{this, "up", 128, 6, true};
  Child<Linear> odd{this, "odd", 20, 4};
};

std::vector<QuantType> mlx_types() {
  std::vector<QuantType> out = {
      {QuantMode::mxfp4, 32, 4}, {QuantMode::mxfp8, 32, 8}, {QuantMode::nvfp4, 16, 4}};
  for (const int bits : {2, 3, 4, 5, 6, 8})
    for (const int group : {32, 64, 128}) out.push_back({QuantMode::affine, group, bits});
  return out;
}

bool not_odd(const std::string& path) { return path != "odd"; }

TEST(Quantized, EveryTypeMatchesItsDequantisedWeights) {
  kernels::PrecisionScope exact(kernels::Precision::exact);
  for (const QuantType& type : mlx_types()) {
    SCOPED_TRACE(detail::quant_settings(type));
    Tiny m;
    m.up->bias.set(mx::random::normal({6}));
    quantize_weights(m, [&](const std::string& path, const Module&) {
      return not_odd(path) ? std::optional(type) : std::nullopt;
    });
    const auto& up = dynamic_cast<const QuantizedLinear&>(*m.up);
    const auto dense = kernels::dequantize(up.matrix(), mx::float32);
    const auto x = mx::random::normal({2, 3, 128});
    EXPECT_TRUE(near(m.up(x), mx::matmul(x, mx::transpose(dense)) + *up.bias, 1e-4f));

    const auto& embed = dynamic_cast<const QuantizedEmbedding&>(*m.embed);
    const auto table = kernels::dequantize(embed.matrix(), mx::float32);
    const auto ids = mx::array({7, 0, 3, 3}, {2, 2});
    EXPECT_TRUE(near(m.embed(ids), mx::take(table, ids, 0), 1e-6f));
    EXPECT_TRUE(near(m.embed->as_linear(x), mx::matmul(x, mx::transpose(table)), 1e-4f));
  }
}

TEST(Quantized, TwinsTakeACheckpoint) {
  for (const QuantType& type : mlx_types()) {
    SCOPED_TRACE(detail::quant_settings(type));
    const auto which = [&](const std::string& path, const Module&) {
      return not_odd(path) ? std::optional(type) : std::nullopt;
    };
    Tiny made, loaded;
    quantize_weights(made, which);
    quantize(loaded, which);
    load(loaded, made.parameters());
    const auto x = mx::random::normal({3, 128});
    EXPECT_TRUE(near(loaded.up(x), made.up(x), 0));
    EXPECT_EQ(loaded.parameters().count("up.biases"), type.mode == QuantMode::affine ? 1u : 0u);
    EXPECT_EQ(loaded.num_parameters(), Tiny().num_parameters());
  }
}

TEST(Quantized, LoadIsStrictOnTwins) {
  const QuantType type{QuantMode::affine, 64, 4};
  Tiny m;
  quantize(m, [&](const std::string& path, const Module&) {
    return path == "up" ? std::optional(type) : std::nullopt;
  });
  auto w = m.parameters();
  w.insert_or_assign("up.weight", mx::zeros({6, 16}));
  w.insert_or_assign("up.scales", mx::zeros({6, 4}));
  w.erase("up.biases");
  w.insert_or_assign("odd.scales", mx::zeros({4, 1}));
  try {
    load(m, w);
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("dtype   up.weight: expected uint32, found float32"));
    EXPECT_THAT(e.what(), HasSubstr("shape   up.scales: expected [6, 2], found [6, 4]"));
    EXPECT_THAT(e.what(), HasSubstr("missing up.biases"));
    EXPECT_THAT(e.what(), HasSubstr("unused  odd.scales"));
  }
}

TEST(Quantized, SizesThatDoNotFitAreRefusedByPath) {
  Tiny m;
  try {
    quantize(m, [](const std::string&, const Module&) {
      return std::optional(QuantType{QuantMode::affine, 64, 4});
    });
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("odd: quantization: 20 columns"));
  }
  EXPECT_EQ(dynamic_cast<QuantizedLinear*>(&*m.up), nullptr) << "all or nothing";
}

TEST(Quantized, WhatMlxHasNotIsRefused) {
  const auto refused = [](const QuantType& type) {
    Tiny m;
    EXPECT_THROW(quantize(m,
                          [&](const std::string& path, const Module&) {
                            return path == "up" ? std::optional(type) : std::nullopt;
                          }),
                 Error);
  };
  refused({QuantMode::affine, 64, 7});
  refused({QuantMode::affine, 16, 4});
  refused({QuantMode::mxfp4, 64, 4});
  refused({QuantMode::nvfp4, 32, 4});
}

TEST(Quantized, GgufTwinsHoldTheFilesBytes) {
  for (const auto& [mode, bytes] : {std::pair(QuantMode::q4_0, 4 * 18),
                                    {QuantMode::q8_0, 4 * 34},
                                    {QuantMode::q5_1, 4 * 24},
                                    {QuantMode::iq4_nl, 4 * 18}}) {
    Tiny m;
    const auto which = [type = kernels::quant_type(mode)](const std::string& path, const Module&) {
      return path == "up" ? std::optional(type) : std::nullopt;
    };
    quantize(m, which);
    EXPECT_EQ(m.up->weight->dtype(), mx::uint8);
    EXPECT_EQ(m.up->weight->shape(), (mx::Shape{6, bytes}));
    EXPECT_EQ(m.parameters().count("up.scales"), 0u);
    EXPECT_EQ(m.up->input_dims(), 128);
    Tiny floats;
    EXPECT_THROW(quantize_weights(floats, which), Error);
  }
}

TEST(Quantized, NeverTrainedExceptBias) {
  Tiny m;
  quantize_weights(m, [](const std::string& path, const Module&) {
    return path == "up" ? std::optional(QuantType{QuantMode::affine, 64, 4}) : std::nullopt;
  });
  m.unfreeze();
  const auto trained = m.trainable_parameters();
  EXPECT_EQ(trained.count("up.weight") + trained.count("up.scales") + trained.count("up.biases"),
            0u);
  EXPECT_EQ(trained.count("up.bias"), 1u);
}

TEST(Quantized, AndBack) {
  Tiny m;
  quantize_weights(m, [](const std::string& path, const Module&) {
    return not_odd(path) ? std::optional(QuantType{QuantMode::affine, 32, 8}) : std::nullopt;
  });
  const auto x = mx::random::normal({2, 128});
  const auto before = m.up(x);
  dequantize_weights(m);
  EXPECT_EQ(to_string(*m.up), "Linear(input_dims=128, output_dims=6, bias=true)");
  EXPECT_EQ(to_string(*m.embed), "Embedding(8, 128)");
  EXPECT_TRUE(near(m.up(x), before, 1e-3f));
}

TEST(Quantized, PrintsItsFormat) {
  EXPECT_EQ(to_string(QuantizedLinear(64, 2, {QuantMode::affine, 32, 4})),
            "QuantizedLinear(input_dims=64, output_dims=2, bias=false, group_size=32, bits=4, "
            "mode=affine)");
}

}  // namespace
}  // namespace mlxcpp::nn

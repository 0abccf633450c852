#include "nn/quantized.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/precision.h"
#include "near.h"
#include "nn/switch_layers.h"

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
    EXPECT_THAT(e.what(), HasSubstr("dtype of up.weight: expected uint32, found float32"));
    EXPECT_THAT(e.what(), HasSubstr("shape of up.scales: expected [6, 2], found [6, 4]"));
    EXPECT_THAT(e.what(), HasSubstr("missing up.biases"));
    EXPECT_THAT(e.what(), HasSubstr("unused odd.scales"));
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

TEST(Quantized, ExpertsMatchTheirDequantisedWeights) {
  kernels::PrecisionScope exact(kernels::Precision::exact);
  struct Experts final : Module {
    Child<SwitchGLU> glu{this, "glu", 128, 128, 4, true};
  };
  const auto x = mx::random::normal({40, 128});
  const auto experts = mx::random::randint(0, 4, {40, 2});
  for (const QuantType& type : mlx_types()) {
    SCOPED_TRACE(detail::quant_settings(type));
    Experts m, loaded;
    m.glu->up_proj->bias.set(mx::random::normal({4, 128}));
    quantize_weights(m, type);
    ASSERT_NE(dynamic_cast<QuantizedSwitchLinear*>(&*m.glu->gate_proj), nullptr);
    quantize(loaded, [&](const std::string&, const Module&) { return std::optional(type); });
    load(loaded, m.parameters());
    const auto row = mx::slice(x, {0, 0}, {1, 128}), choice = mx::array({3, 1}, {1, 2});
    const auto many = loaded.glu(x, experts), few = loaded.glu(row, choice);
    dequantize_weights(m);
    EXPECT_TRUE(near(many, m.glu(x, experts), 2e-4f));
    EXPECT_TRUE(near(few, m.glu(row, choice), 2e-4f));
  }
}

// Random blocks of a GGUF type whose blocks begin with an f16 scale: 0.0625.
mx::array gguf_blocks(const QuantType& type, mx::Shape shape) {
  const size_t row = kernels::row_bytes(type, shape.back());
  const size_t block = row / (static_cast<size_t>(shape.back()) / type.group_size);
  shape.back() = static_cast<int>(row);
  size_t count = 1;
  for (const int n : shape) count *= static_cast<size_t>(n);
  std::vector<uint8_t> bytes(count);
  for (size_t i = 0; i < count; ++i)
    bytes[i] = i % block == 0 ? 0x00 : i % block == 1 ? 0x2c : static_cast<uint8_t>(i * 37 + i / 7);
  return mx::array(bytes.begin(), std::move(shape), mx::uint8);
}

TEST(Quantized, GgufTwinsMatchTheirDequantisedWeights) {
  kernels::PrecisionScope exact(kernels::Precision::exact);
  const auto x = mx::random::normal({3, 128});
  for (const auto mode : {QuantMode::q4_0, QuantMode::q5_0, QuantMode::q8_0, QuantMode::iq4_nl}) {
    const QuantType type = kernels::quant_type(mode);
    SCOPED_TRACE(detail::quant_settings(type));
    QuantizedLinear linear(128, 6, type);
    load(linear, {{"weight", gguf_blocks(type, {6, 128})}});
    const auto dense = kernels::dequantize(linear.matrix(), mx::float32);
    EXPECT_TRUE(near(linear(x), mx::matmul(x, mx::transpose(dense)), 1e-4f));

    QuantizedEmbedding embed(9, 128, type);
    load(embed, {{"weight", gguf_blocks(type, {9, 128})}});
    const auto table = kernels::dequantize(embed.matrix(), mx::float32);
    EXPECT_TRUE(near(embed(mx::array({8, 0})), mx::take(table, mx::array({8, 0}), 0), 0));
    EXPECT_TRUE(near(embed.as_linear(x), mx::matmul(x, mx::transpose(table)), 1e-4f));
    embed.set_dtype(mx::bfloat16);
    EXPECT_EQ(embed(mx::array({1})).dtype(), mx::bfloat16);

    QuantizedSwitchLinear experts(128, 6, 4, type);
    load(experts, {{"weight", gguf_blocks(type, {4, 6, 128})}});
    SwitchLinear floats(128, 6, 4);
    floats.weight.set(kernels::dequantize(experts.matrix(), mx::float32));
    const auto chosen = mx::array({3, 0, 2}, mx::uint32);
    EXPECT_TRUE(near(experts(x, chosen), floats(x, chosen), 1e-4f));
  }
}

TEST(Quantized, GradientsPassThroughTwins) {
  kernels::PrecisionScope exact(kernels::Precision::exact);
  Linear dense(128, 4);
  const auto twin = dense.quantized({QuantMode::affine, 64, 8});
  const auto& quantised = dynamic_cast<const QuantizedLinear&>(*twin);
  dense.weight.set(kernels::dequantize(quantised.matrix(), mx::float32));
  const auto x = mx::random::normal({2, 128});
  const auto slope = [&](const Linear& layer) {
    return mx::grad([&](const mx::array& a) { return mx::sum(mx::square(layer(a))); })(x);
  };
  EXPECT_TRUE(near(slope(quantised), slope(dense), 1e-4f));
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

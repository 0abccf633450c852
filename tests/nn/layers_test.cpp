// Every layer against Python's mlx.nn (tests/scripts/make_nn_goldens.py).
#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "near.h"
#include "nn/activations.h"
#include "nn/attention.h"
#include "nn/containers.h"
#include "nn/conv.h"
#include "nn/dropout.h"
#include "nn/embedding.h"
#include "nn/linear.h"
#include "nn/norm.h"
#include "nn/pooling.h"
#include "nn/switch_layers.h"
#include "nn/value_and_grad.h"
#include "tests/support/paths.h"

namespace mlxcpp::nn {
namespace {

using test::near;
using ::testing::HasSubstr;

const auto& golden() {
  static const auto arrays =
      mx::load_safetensors((test::golden_folder() / "nn/layers.safetensors").string()).first;
  return arrays;
}

mx::array golden(const std::string& name) { return golden().at(name); }

// Gives `m` the parameters of a case, strictly.
void fill(Module& m, const std::string& name) {
  const std::string prefix = name + "/param/";
  Weights w;
  for (const auto& [key, value] : golden())
    if (key.starts_with(prefix)) w.emplace(key.substr(prefix.size()), value);
  load(m, w);
}

void check(const std::string& name, Layer& layer) {
  SCOPED_TRACE(name);
  fill(layer, name);
  EXPECT_TRUE(near(layer(golden(name + "/x")), golden(name + "/y"), 2e-5f)) << layer;
}

void check(const std::string& name, Layer&& layer) { check(name, layer); }

TEST(Layers, LinearAndEmbedding) {
  check("linear", Linear(5, 3, true));
  check("embedding", Embedding(7, 4));
  Bilinear b(3, 4, 5);
  fill(b, "bilinear");
  EXPECT_TRUE(near(b(golden("bilinear/x1"), golden("bilinear/x2")), golden("bilinear/y")));
  EXPECT_TRUE(near(Identity()(golden("linear/x")), golden("linear/x"), 0));
}

TEST(Layers, Norms) {
  check("rms_norm", RMSNorm(6, 1e-3f));
  check("layer_norm", LayerNorm(6, 1e-3f));
  check("layer_norm_no_bias", LayerNorm(6, 1e-5f, true, false));
  check("layer_norm_plain", LayerNorm(6, 1e-5f, false));
  check("group_norm", GroupNorm(3, 6, 1e-3f));
  check("group_norm_pytorch", GroupNorm(3, 6, 1e-5f, true, true));
  check("group_norm_plain", GroupNorm(2, 6, 1e-5f, false, true));
  check("instance_norm", InstanceNorm(4, 1e-5f, true));
  check("instance_norm_plain", InstanceNorm(4));
  BatchNorm norm(4);
  norm.eval();
  check("batch_norm_eval", norm);
}

TEST(Layers, Convolutions) {
  check("conv1d", Conv1d(3, 4, 3));
  check("conv1d_options",
        Conv1d(4, 6, 3, {.stride = 2, .padding = 2, .dilation = 2, .groups = 2, .bias = false}));
  check("conv1d_depthwise", Conv1d(5, 5, 4, {.padding = 3, .groups = 5}));
  check("conv2d", Conv2d(3, 4, {{2, 3}}, {.stride = {{1, 2}}, .padding = {{1, 0}}}));
  check("conv2d_grouped", Conv2d(4, 6, 3, {.padding = 1, .groups = 2}));
  check("conv2d_dilated", Conv2d(2, 3, 2, {.dilation = {{2, 3}}}));
  check("conv3d", Conv3d(2, 3, {{2, 1, 3}}, {.stride = 2, .padding = 1}));
  check("conv_transpose1d",
        ConvTranspose1d(3, 4, 3, {.stride = 2, .padding = 1, .output_padding = 1}));
  check("conv_transpose2d",
        ConvTranspose2d(3, 2, {{3, 2}}, {.stride = {{2, 1}}, .padding = {{1, 0}}}));
  check("conv_transpose2d_dilated", ConvTranspose2d(2, 3, 2, {.stride = 2, .dilation = 2}));
  check("conv_transpose3d", ConvTranspose3d(2, 3, 2, {.stride = 2}));
}

TEST(Layers, Pools) {
  check("max_pool1d", MaxPool1d(3, 2, 1));
  check("max_pool2d", MaxPool2d(2));
  check("max_pool2d_overlap", MaxPool2d({{3, 2}}, {{{2, 1}}}, 1));
  check("max_pool3d", MaxPool3d(2, 1));
  check("avg_pool1d", AvgPool1d(3));
  check("avg_pool2d", AvgPool2d(3, 2, 1));
  check("avg_pool3d", AvgPool3d({{1, 2, 2}}));
}

TEST(Layers, PoolOfAView) {
  const auto x = golden("max_pool2d/x");
  const auto turned = mx::transpose(x, {0, 2, 1, 3});
  EXPECT_TRUE(near(mx::transpose(MaxPool2d(2)(turned), {0, 2, 1, 3}), golden("max_pool2d/y")));
}

TEST(Layers, MultiHeadAttention) {
  const auto run = [](const std::string& name, const MultiHeadAttention& m) {
    return m(golden(name + "/x1"), golden(name + "/x2"), golden(name + "/x3"));
  };
  MultiHeadAttention plain(8, 2, {}, true);
  fill(plain, "attention");
  EXPECT_TRUE(near(run("attention", plain), golden("attention/y")));
  MultiHeadAttention widths(
      8, 2, {.query_input = 6, .key_input = 5, .value_input = 4, .value = 12, .value_output = 3});
  fill(widths, "attention_widths");
  EXPECT_TRUE(near(run("attention_widths", widths), golden("attention_widths/y")));
  MultiHeadAttention causal(8, 4);
  fill(causal, "attention_causal");
  const auto x = golden("attention_causal/x");
  const auto mask = MultiHeadAttention::additive_causal_mask(4);
  EXPECT_TRUE(near(causal(x, x, x, mask), golden("attention_causal/y")));
  EXPECT_THROW(MultiHeadAttention(8, 3), Error);
}

TEST(Layers, Experts) {
  SwitchLinear linear(4, 3, 5, true);
  fill(linear, "switch_linear");
  const auto x = mx::squeeze(golden("switch_linear/x1"), 1);
  const auto experts = mx::astype(golden("switch_linear/x2"), mx::uint32);
  EXPECT_TRUE(near(linear(x, experts), mx::squeeze(golden("switch_linear/y"), 1)));

  SwitchGLU few(6, 5, 4), many(6, 5, 4, true);
  fill(few, "switch_glu_few");
  fill(many, "switch_glu_many");
  EXPECT_TRUE(near(few(golden("switch_glu_few/x1"), golden("switch_glu_few/x2")),
                   golden("switch_glu_few/y")));
  EXPECT_TRUE(near(many(golden("switch_glu_many/x1"), golden("switch_glu_many/x2")),
                   golden("switch_glu_many/y")));
}

TEST(Experts, OneExpertByHand) {
  SwitchMLP mlp(3, 4, 2, relu);
  const auto x = mx::random::normal({5, 3});
  const auto y = mlp(x, mx::ones({5, 1}, mx::int32));
  const auto w = [](const SwitchLinear& l) { return mx::transpose(mx::take(*l.weight, 1, 0)); };
  const auto want = mx::matmul(relu(mx::matmul(x, w(*mlp.fc1))), w(*mlp.fc2));
  EXPECT_TRUE(near(mx::squeeze(y, 1), want));
}

TEST(Experts, GradientsReachWeightsAndInput) {
  SwitchGLU glu(4, 3, 5);
  const auto x = mx::random::normal({40, 4});  // enough rows to be ordered by expert
  const auto experts = mx::random::randint(0, 5, {40, 2});
  auto [loss, grads] = value_and_grad(
      glu, [&](const Arrays& in) { return mx::sum(mx::square(glu(in[0], experts))); })({x});
  ASSERT_EQ(grads.size(), 3u);
  const auto before = *glu.down_proj->weight;
  const auto loss_at = [&](float d) {
    glu.down_proj->weight.set(before + mx::array(d) * mx::ones_like(before));
    return mx::sum(mx::square(glu(x, experts))).item<float>();
  };
  const float slope = (loss_at(1e-2f) - loss_at(-1e-2f)) / 2e-2f;
  const float sum = mx::sum(grads.at("down_proj.weight")).item<float>();
  EXPECT_NEAR(sum, slope, 1e-3 * std::max(1.0f, std::abs(slope)));
}

TEST(Activations, FunctionsAndModulesMatchMlx) {
  const auto x = golden("activations/x");
  PReLU prelu(6);
  prelu.weight.set(mx::arange(0, 6, mx::float32) / mx::array(10.0f));
  const auto same = [&](const std::string& name, const mx::array& y) {
    EXPECT_TRUE(near(y, golden("activations/" + name), 2e-6f)) << name;
  };
  same("relu", ReLU()(x));
  same("relu2", ReLU2()(x));
  same("relu6", ReLU6()(x));
  same("leaky_relu", LeakyReLU(0.3f)(x));
  same("elu", ELU(0.7f)(x));
  same("selu", SELU()(x));
  same("celu", CELU(0.7f)(x));
  same("silu", SiLU()(x));
  same("gelu", GELU()(x));
  same("gelu_approx", GELU(GELU::Form::tanh)(x));
  same("gelu_fast_approx", GELU(GELU::Form::sigmoid)(x));
  same("mish", Mish()(x));
  same("hardswish", Hardswish()(x));
  same("hard_tanh", HardTanh()(x));
  same("hard_shrink", HardShrink(0.8f)(x));
  same("softshrink", Softshrink(0.8f)(x));
  same("softplus", Softplus()(x));
  same("softsign", Softsign()(x));
  same("sigmoid", Sigmoid()(x));
  same("log_sigmoid", LogSigmoid()(x));
  same("tanh", Tanh()(x));
  same("step", Step(0.2f)(x));
  same("softmax", Softmax()(x));
  same("log_softmax", LogSoftmax()(x));
  same("softmin", Softmin()(x));
  same("glu", GLU()(x));
  same("prelu", prelu(x));
}

TEST(Activations, KeepTheDtype) {
  const auto x = mx::astype(golden("activations/x"), mx::bfloat16);
  for (const auto name : activation_names())
    EXPECT_EQ(activation_from_name(name)(x).dtype(), mx::bfloat16) << name;
  for (const auto& y : {elu(x), celu(x), hard_tanh(x), softshrink(x), step(x), glu(x), softmin(x)})
    EXPECT_EQ(y.dtype(), mx::bfloat16);
}

TEST(Activations, ByTheNamesOfConfigJson) {
  const auto x = golden("activations/x");
  EXPECT_TRUE(near(activation_from_name("silu")(x), golden("activations/silu")));
  EXPECT_TRUE(
      near(activation_from_name("gelu_pytorch_tanh")(x), golden("activations/gelu_approx")));
  EXPECT_TRUE(near(activation_from_name("quick_gelu")(x), golden("activations/gelu_fast_approx")));
  try {
    activation_from_name("glue");
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("'glue'"));
    EXPECT_THAT(e.what(), HasSubstr("gelu_pytorch_tanh"));
  }
}

TEST(Activations, GatedByName) {
  const auto gate = golden("activations/x"), up = mx::sin(gate);
  for (const auto name : {"silu", "gelu", "gelu_pytorch_tanh", "relu2", "quick_gelu"})
    EXPECT_TRUE(near(GatedActivation(name)(gate, up), activation_from_name(name)(gate) * up))
        << name;
}

TEST(Activations, EluHasAGradientForLargeNumbers) {
  const auto slope = mx::grad([](const mx::array& x) { return mx::sum(elu(x)); });
  EXPECT_TRUE(near(slope(mx::array({200.0f, -1.0f})), mx::array({1.0f, std::exp(-1.0f)})));
}

TEST(RMSNorm, GemmasGainIsRoundedOnce) {
  // 1 + w does not fit bfloat16: rounding it first would lose w.
  RMSNorm norm(4, 0.0f, true);
  norm.weight.set(mx::full({4}, 0.001f, mx::bfloat16));
  const auto x = mx::full({1, 4}, 3.0f, mx::float32);
  EXPECT_TRUE(near(norm(x), mx::full({1, 4}, 1.0f + 0.00099945f), 1e-6f));
  EXPECT_EQ(norm(mx::astype(x, mx::bfloat16)).dtype(), mx::bfloat16);
  norm.weight.set(mx::full({4}, 2.0f));  // a new weight, a new gain
  EXPECT_TRUE(near(norm(x), mx::full({1, 4}, 3.0f)));
}

TEST(BatchNorm, LearnsTheBatchesStatistics) {
  BatchNorm norm(2, 0.0f, 0.5f);
  const auto x = mx::array({1.0f, 10.0f, 3.0f, 30.0f}, {2, 2});
  EXPECT_TRUE(near(norm(x), mx::array({-1.0f, -1.0f, 1.0f, 1.0f}, {2, 2})));
  EXPECT_TRUE(near(*norm.running_mean, mx::array({1.0f, 10.0f})));
  EXPECT_TRUE(near(*norm.running_var, mx::array({1.5f, 100.5f})));
  EXPECT_THROW(norm(mx::ones({1, 2})), Error);
  norm.eval();
  EXPECT_TRUE(near(norm(mx::array({1.0f, 10.0f}, {1, 2})), mx::zeros({1, 2})));
}

TEST(Dropout, ScalesWhatItKeeps) {
  mx::random::seed(3);
  Dropout dropout(0.25f);
  const auto x = mx::ones({100, 100});
  const auto y = dropout(x);
  const auto kept = mx::not_equal(y, mx::array(0.0f));
  EXPECT_TRUE(near(mx::where(kept, y, mx::array(4 / 3.0f)), mx::full({100, 100}, 4 / 3.0f)));
  EXPECT_NEAR(mx::mean(mx::astype(kept, mx::float32)).item<float>(), 0.75f, 0.02f);
  dropout.eval();
  EXPECT_TRUE(near(dropout(x), x, 0));
  EXPECT_THROW(Dropout(1.0f), Error);
  EXPECT_THROW(Dropout(-0.1f), Error);
}

TEST(Dropout, DropsWholeChannels) {
  mx::random::seed(5);
  const auto whole = [](const Layer& dropout, const mx::Shape& shape,
                        const std::vector<int>& positions) {
    const auto y = dropout(mx::ones(shape));
    EXPECT_TRUE(near(mx::min(y, positions), mx::max(y, positions), 0));  // one value a channel
    auto zeros = mx::sum(mx::astype(mx::equal(y, mx::array(0.0f)), mx::int32));
    EXPECT_GT(zeros.item<int>(), 0);
    EXPECT_THROW(dropout(mx::ones({4})), Error);
  };
  whole(Dropout1d(), {8, 5, 16}, {1});
  whole(Dropout2d(), {8, 5, 3, 16}, {1, 2});
  whole(Dropout3d(), {4, 2, 3, 2, 16}, {1, 2, 3});
  whole(Dropout2d(), {5, 3, 64}, {0, 1});
}

TEST(Sequential, RunsAndNamesItsLayers) {
  Sequential mlp;
  mlp.add<Linear>(3, 4, true).add<ReLU>().add<Dropout>(0.5f).add<Linear>(4, 2);
  mlp.eval();
  const auto x = mx::random::normal({5, 3});
  const auto& first = dynamic_cast<const Linear&>(mlp.layers[0]);
  const auto& last = dynamic_cast<const Linear&>(mlp.layers[3]);
  EXPECT_TRUE(near(mlp(x), last(relu(first(x)))));
  EXPECT_EQ(to_string(mlp),
            "Sequential(\n"
            "  (layers.0): Linear(input_dims=3, output_dims=4, bias=true)\n"
            "  (layers.1): ReLU()\n"
            "  (layers.2): Dropout(p=0.5)\n"
            "  (layers.3): Linear(input_dims=4, output_dims=2, bias=false)\n"
            ")");
  EXPECT_EQ(mlp.parameters().count("layers.3.weight"), 1u);
}

TEST(Layers, PrintTheirSettings) {
  EXPECT_EQ(to_string(Conv2d(3, 4, {{2, 3}}, {.stride = 2, .groups = 1})),
            "Conv2d(3, 4, kernel_size=(2, 3), stride=(2, 2), padding=(0, 0), dilation=(1, 1), "
            "groups=1, bias=true)");
  EXPECT_EQ(to_string(MaxPool1d(3, 2)), "MaxPool1d(kernel_size=3, stride=2, padding=0)");
  EXPECT_EQ(to_string(RMSNorm(8, 0.5f, true)), "RMSNorm(8, eps=0.5, plus_one=true)");
}

TEST(Layers, RefuseWhatCannotBe) {
  EXPECT_THROW(Conv1d(3, 4, 3, {.groups = 2}), Error);
  EXPECT_THROW(Conv2d(3, 4, 3)(mx::ones({2, 5, 6, 4})), Error);
  EXPECT_THROW(Conv2d(3, 4, 3)(mx::ones({5, 6, 3})), Error);
  EXPECT_THROW(MaxPool1d(0), Error);
  EXPECT_THROW(MaxPool1d(5)(mx::ones({1, 3, 2})), Error);
  EXPECT_THROW(GroupNorm(4, 6), Error);
  EXPECT_THROW(GroupNorm(2, 6)(mx::ones({2, 5})), Error);
}

}  // namespace
}  // namespace mlxcpp::nn

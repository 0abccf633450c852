#include "nn/module.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "near.h"
#include "nn/embedding.h"
#include "nn/linear.h"
#include "nn/norm.h"
#include "nn/quantized.h"
#include "nn/value_and_grad.h"

namespace mlxcpp::nn {
namespace {

using test::near;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

struct Block final : Module {
  explicit Block(int dims) : norm(this, "norm", dims), up(this, "up", dims, 2 * dims, true) {}
  Child<RMSNorm> norm;
  Child<Linear> up;
  Child<Linear> down{this, "down", 6, 3};
  mx::array operator()(const mx::array& x) const { return x + down(up(norm(x))); }
};

struct Model final : Module {
  explicit Model(bool tied = true) {
    for (int i = 0; i < 2; ++i) layers.emplace_back(3);
    if (!tied) head.emplace(3, 5);
  }
  Child<Embedding> embed{this, "embed", 5, 3};
  Children<Block> layers{this, "layers"};
  Child<Linear> head{this, "head", absent};
  mx::array operator()(const mx::array& ids) const {
    auto h = embed(ids);
    for (size_t i = 0; i < layers.size(); ++i) h = layers.call(i, h);
    return head ? head(h) : embed->as_linear(h);
  }
};

std::vector<std::string> keys(const Weights& w) {
  std::vector<std::string> out;
  for (const auto& [key, value] : w) out.push_back(key);
  return out;
}

std::string message(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST(Module, MembersNameThemselves) {
  Model m(false);
  EXPECT_THAT(
      keys(m.parameters()),
      ElementsAre("embed.weight", "head.weight", "layers.0.down.weight", "layers.0.norm.weight",
                  "layers.0.up.bias", "layers.0.up.weight", "layers.1.down.weight",
                  "layers.1.norm.weight", "layers.1.up.bias", "layers.1.up.weight"));
  std::vector<std::string> paths;
  m.for_each_module([&](const std::string& p, Module&) { paths.push_back(p); });
  EXPECT_THAT(paths,
              ElementsAre("embed", "layers.0", "layers.0.norm", "layers.0.up", "layers.0.down",
                          "layers.1", "layers.1.norm", "layers.1.up", "layers.1.down", "head"));
}

TEST(Module, AbsentChildHasNoParameters) {
  Model m(true);
  EXPECT_EQ(m.parameters().count("head.weight"), 0u);
  EXPECT_THAT(message([&] { m.replace("head", std::make_unique<Linear>(3, 5)); }),
              HasSubstr("no sub-module at 'head'"));
}

TEST(Module, CountsParametersAndBytes) {
  Model m(false);
  const size_t block = 3 + 6 * 3 + 6 + 3 * 6;
  EXPECT_EQ(m.num_parameters(), 15 + 2 * block + 15);
  EXPECT_EQ(m.nbytes(), 4 * m.num_parameters());
}

TEST(Module, PrintsItsTree) {
  Model m(true);
  EXPECT_EQ(to_string(m),
            "Model(\n"
            "  (embed): Embedding(5, 3)\n"
            "  (layers.0): Block(\n"
            "    (norm): RMSNorm(3, eps=1e-05)\n"
            "    (up): Linear(input_dims=3, output_dims=6, bias=true)\n"
            "    (down): Linear(input_dims=6, output_dims=3, bias=false)\n"
            "  )\n"
            "  (layers.1): Block(\n"
            "    (norm): RMSNorm(3, eps=1e-05)\n"
            "    (up): Linear(input_dims=3, output_dims=6, bias=true)\n"
            "    (down): Linear(input_dims=6, output_dims=3, bias=false)\n"
            "  )\n"
            ")");
}

TEST(Module, KnowsWhereModulesStand) {
  Model m;
  EXPECT_EQ(m.path_of(*m.layers[1].up), "layers.1.up");
  EXPECT_EQ(m.path_of(m), "");
  EXPECT_EQ(&m.at("layers.1.up"), &*m.layers[1].up);
  EXPECT_THAT(message([&] { m.at("layers.2"); }), HasSubstr("'layers.2'"));
  Linear stranger(1, 1);
  EXPECT_THROW(m.path_of(stranger), Error);
}

TEST(Module, ObserverSeesOutputsInTheOrderOfComputation) {
  Model m;
  const auto paths = m.paths();
  std::vector<std::string> seen;
  {
    ObserverScope scope(
        [&](const Module& module, const mx::array&) { seen.push_back(paths.at(&module)); });
    m(mx::array({0, 1}));
  }
  m(mx::array({0, 1}));
  EXPECT_THAT(seen,
              ElementsAre("embed", "layers.0.norm", "layers.0.up", "layers.0.down", "layers.0",
                          "layers.1.norm", "layers.1.up", "layers.1.down", "layers.1"));
}

TEST(Load, TakesWhatFits) {
  Model a, b;
  load(b, a.parameters());
  const auto ids = mx::array({0, 3, 4});
  EXPECT_TRUE(near(b(ids), a(ids), 0));
}

TEST(Load, NamesEveryFaultAndTouchesNothing) {
  Model m;
  auto w = m.parameters();
  const auto before = *m.layers[1].norm->weight;
  w.erase("embed.weight");
  w.erase("layers.0.up.bias");
  w.insert_or_assign("layers.1.norm.weight", mx::zeros({4}));
  w.insert_or_assign("layers.0.down.weight", mx::zeros({3, 6}, mx::uint32));
  w.insert_or_assign("head.weight", mx::zeros({5, 3}));
  w.insert_or_assign("layers.2.norm.weight", mx::zeros({3}));
  const auto text = message([&] { load(m, w); });
  EXPECT_THAT(text, HasSubstr("missing embed.weight"));
  EXPECT_THAT(text, HasSubstr("missing layers.0.up.bias"));
  EXPECT_THAT(text, HasSubstr("shape of layers.1.norm.weight: expected [3], found [4]"));
  EXPECT_THAT(text,
              HasSubstr("dtype of layers.0.down.weight: expected floating point, found uint32"));
  EXPECT_THAT(text, HasSubstr("unused head.weight"));
  EXPECT_THAT(text, HasSubstr("unused layers.2.norm.weight"));
  EXPECT_THAT(text, Not(HasSubstr("layers.1.up")));
  EXPECT_EQ(m.layers[1].norm->weight->id(), before.id());
}

TEST(Load, ALongListOfFaultsIsCut) {
  Linear l(4, 2, false);
  Weights w{{"weight", mx::zeros({2, 4})}};
  for (int i = 0; i < 1000; ++i) w.insert_or_assign(fmt::format("w{:04}", i), mx::zeros({1}));
  EXPECT_THAT(message([&] { load(l, w); }), EndsWith("unused w0019; and 980 more"));
}

TEST(Load, KeepsTheCheckpointsDtype) {
  Linear l(4, 2);
  load(l, {{"weight", mx::ones({2, 4}, mx::bfloat16)}});
  EXPECT_EQ(l.weight->dtype(), mx::bfloat16);
}

TEST(Replace, PutsADerivedLayerIn) {
  Model m;
  m.train(false);
  auto old =
      m.replace("layers.1.up", std::make_unique<QuantizedLinear>(
                                   32, 6, kernels::quant_type(kernels::QuantMode::affine, 32, 4)));
  EXPECT_NE(dynamic_cast<Linear*>(old.get()), nullptr);
  EXPECT_NE(dynamic_cast<QuantizedLinear*>(&*m.layers[1].up), nullptr);
  EXPECT_FALSE(m.layers[1].up->training());
  m.replace("layers.0", std::make_unique<Block>(3));
}

TEST(Replace, RefusesAWrongType) {
  Model m;
  EXPECT_EQ(message([&] { m.replace("layers.1.up", std::make_unique<RMSNorm>(3)); }),
            "cannot replace 'layers.1.up': expected a Linear, found a RMSNorm");
  EXPECT_EQ(message([&] { m.replace("layers.1.up", nullptr); }),
            "cannot replace 'layers.1.up': expected a Linear, found nothing");
  EXPECT_EQ(message([&] { m.replace("layers.1.sideways", std::make_unique<Linear>(3, 3)); }),
            "no sub-module at 'layers.1.sideways'");
  EXPECT_TRUE(m.layers[1].up);
}

// A layer that wraps another, as an adapter does: the wrapped one keeps its weights, one level
// down.
struct Doubled final : Linear {
  Doubled(int in, int out) : Linear(in, out, std::nullopt) {}
  Child<Linear> linear{this, "linear", absent};
  mx::array operator()(const mx::array& x) const override { return linear(x) * mx::array(2.0f); }
};

TEST(Replace, WrapsALayerAndGivesItBack) {
  Model m;
  const auto x = mx::ones({2, 3});
  const auto before = m.layers[1].up(x);
  auto old = m.replace("layers.1.up", std::make_unique<Doubled>(3, 6));
  auto& wrapper = dynamic_cast<Doubled&>(m.at("layers.1.up"));
  wrapper.linear.set(std::unique_ptr<Linear>(dynamic_cast<Linear*>(old.release())));
  EXPECT_TRUE(near(m.layers[1].up(x), before * mx::array(2.0f)));
  EXPECT_EQ(m.parameters().count("layers.1.up.weight"), 0u);
  EXPECT_EQ(m.parameters().count("layers.1.up.linear.weight"), 1u);
}

TEST(Freeze, ByPathAndByPredicate) {
  Model m;
  m.freeze();
  EXPECT_TRUE(m.trainable_parameters().empty());
  m.unfreeze("layers.1");
  EXPECT_EQ(m.trainable_parameters().size(), 4u);
  m.freeze([](const std::string& path, const Param&) { return path.ends_with(".bias"); });
  EXPECT_THAT(keys(m.trainable_parameters()),
              ElementsAre("layers.1.down.weight", "layers.1.norm.weight", "layers.1.up.weight"));
  EXPECT_THAT(message([&] { m.freeze("layers.7"); }), HasSubstr("'layers.7'"));
  EXPECT_THAT(message([&] { m.freeze("layer"); }), HasSubstr("'layer'"));
}

TEST(Freeze, FixedParametersStayFrozen) {
  BatchNorm norm(3);
  norm.unfreeze();
  EXPECT_THAT(keys(norm.trainable_parameters()), ElementsAre("bias", "weight"));
}

TEST(Parameters, MapCastAndUpdate) {
  Model m;
  m.cast(mx::bfloat16);
  for (const auto& [key, value] : m.parameters()) EXPECT_EQ(value.dtype(), mx::bfloat16) << key;
  m.map_parameters([](const std::string&, const mx::array& a) { return mx::zeros_like(a); },
                   [](const std::string& path, const Param&) { return path == "embed.weight"; });
  EXPECT_TRUE(near(*m.embed->weight, mx::zeros({5, 3})));
  m.update({{"layers.0.up.bias", mx::ones({6})}});
  EXPECT_TRUE(near(*m.layers[0].up->bias, mx::ones({6})));
  const auto text =
      message([&] { m.update({{"nowhere", mx::ones({6})}, {"embed.weight", mx::ones({6})}}); });
  EXPECT_THAT(text, HasSubstr("unknown nowhere"));
  EXPECT_THAT(text, HasSubstr("embed.weight: expected [5, 3], found [6]"));
}

TEST(TrainingMode, ReachesTheWholeTree) {
  Model m;
  EXPECT_TRUE(m.layers[1].up->training());
  m.eval();
  EXPECT_FALSE(m.training());
  EXPECT_FALSE(m.layers[1].up->training());
  m.train();
  EXPECT_TRUE(m.layers[1].up->training());
}

TEST(ValueAndGrad, OfALinearLayerByHand) {
  Linear l(2, 1, true);
  l.weight.set(mx::array({2.0f, -1.0f}, {1, 2}));
  l.bias.set(mx::zeros({1}));
  const auto step = value_and_grad(
      l, [&](const std::vector<mx::array>& in) { return mx::sum(mx::square(l(in[0]) - in[1])); });
  // y = 2*3 - 4 = 2, loss (2-5)^2 = 9, dloss/dy = -6.
  auto [loss, grads] = step({mx::array({3.0f, 4.0f}, {1, 2}), mx::array({5.0f}, {1, 1})});
  EXPECT_FLOAT_EQ(loss.item<float>(), 9);
  EXPECT_TRUE(near(grads.at("weight"), mx::array({-18.0f, -24.0f}, {1, 2})));
  EXPECT_TRUE(near(grads.at("bias"), mx::array({-6.0f})));
}

TEST(ValueAndGrad, OnlyTrainableAndRestoresThem) {
  Model m;
  m.freeze();
  m.unfreeze("layers.1.norm");
  const auto before = *m.layers[1].norm->weight;
  const auto step =
      value_and_grad(m, [&](const std::vector<mx::array>& in) { return mx::sum(m(in[0])); });
  auto [loss, grads] = step({mx::array({1, 2})});
  EXPECT_THAT(keys(grads), ElementsAre("layers.1.norm.weight"));
  EXPECT_EQ(m.layers[1].norm->weight->id(), before.id());
  // Against a difference quotient.
  const auto loss_at = [&](float d) {
    m.layers[1].norm->weight.set(before + mx::array({0.0f, d, 0.0f}));
    return mx::sum(m(mx::array({1, 2}))).item<float>();
  };
  const float slope = (loss_at(0.01f) - loss_at(-0.01f)) / 0.02f;
  EXPECT_NEAR(mx::take(grads.at("layers.1.norm.weight"), 1, 0).item<float>(), slope, 1e-3);
}

TEST(ValueAndGrad, RestoresAfterAnException) {
  Linear l(2, 1);
  const auto before = *l.weight;
  const auto step =
      value_and_grad(l, [&](const std::vector<mx::array>&) -> mx::array { throw Error("no"); });
  EXPECT_THROW(step({}), Error);
  EXPECT_EQ(l.weight->id(), before.id());
}

TEST(ValueAndGrad, FurtherOutputsAreNotDifferentiated) {
  Linear l(1, 1);
  l.weight.set(mx::array({3.0f}, {1, 1}));
  const auto step = value_and_grad(l, [&](const std::vector<mx::array>& in) {
    const auto y = l(in[0]);
    return std::vector{mx::sum(y), y * mx::array(100.0f)};
  });
  auto [values, grads] = step({mx::array({2.0f}, {1, 1})});
  EXPECT_FLOAT_EQ(values[0].item<float>(), 6);
  EXPECT_FLOAT_EQ(values[1].item<float>(), 600);
  EXPECT_FLOAT_EQ(grads.at("weight").item<float>(), 2);
}

TEST(ValueAndGrad, ReachesGemmasGain) {
  RMSNorm norm(2, 0.0f, true);
  const auto x = mx::array({1.0f, -1.0f}, {1, 2});
  EXPECT_TRUE(near(norm(x), x));
  const auto step =
      value_and_grad(norm, [&](const std::vector<mx::array>& in) { return mx::sum(norm(in[0])); });
  EXPECT_TRUE(near(step({x}).second.at("weight"), mx::array({1.0f, -1.0f})));
  norm.weight.set(mx::array({1.0f, 2.0f}));
  EXPECT_TRUE(near(norm(x), mx::array({2.0f, -3.0f}, {1, 2})));
}

}  // namespace
}  // namespace mlxcpp::nn

// Optimizers and schedules against Python MLX (tests/scripts/make_training_goldens.py).
#include <gtest/gtest.h>

#include <memory>

#include "optimizers/gradients.h"
#include "optimizers/multi_optimizer.h"
#include "optimizers/optimizer.h"
#include "support/throws.h"
#include "tests/support/paths.h"
#include "weights/safetensors.h"

namespace mlxcpp::optimizers {
namespace {

using test::error_of;

Weights golden(const char* name) {
  return load_safetensors(test::golden_folder() / "training" /
                          (std::string(name) + ".safetensors"));
}

double largest_difference(const mx::array& a, const mx::array& b) {
  return mx::max(mx::abs(a - b)).item<float>();
}

using Make = std::function<std::unique_ptr<StepOptimizer>()>;
template <class T, class O>
Make made(const O& options) {
  return [options] { return std::make_unique<T>(options); };
}

// The cases of the script, with its options.
std::map<std::string, Make> cases() {
  return {
      {"sgd", made<SGD>(SGDOptions{0.1})},
      {"sgd_momentum", made<SGD>(SGDOptions{0.1, 0.9})},
      {"sgd_nesterov",
       made<SGD>(SGDOptions{.learning_rate = 0.1, .momentum = 0.9, .nesterov = true})},
      {"sgd_decay_dampening", made<SGD>(SGDOptions{0.1, 0.8, 0.05, 0.3})},
      {"rmsprop", made<RMSprop>(RMSpropOptions{0.01, 0.95, 1e-6})},
      {"adagrad", made<Adagrad>(AdagradOptions{0.1, 1e-7})},
      {"adadelta", made<AdaDelta>(AdaDeltaOptions{0.5, 0.8, 1e-5})},
      {"adam", made<Adam>(AdamOptions{0.01})},
      {"adam_bias", made<Adam>(AdamOptions{0.01, 0.8, 0.95, 1e-7, true})},
      {"adamw", made<AdamW>(AdamWOptions{.learning_rate = 0.01, .weight_decay = 0.1})},
      {"adamw_bias", made<AdamW>(AdamWOptions{0.01, 0.8, 0.95, 1e-8, 0.1, true})},
      {"adamax", made<Adamax>(AdamaxOptions{0.02})},
      {"lion", made<Lion>(LionOptions{0.01, 0.85, 0.98})},
      {"lion_decay", made<Lion>(LionOptions{.learning_rate = 0.01, .weight_decay = 0.2})},
      {"adafactor", made<Adafactor>(AdafactorOptions{})},
      {"adafactor_all", made<Adafactor>(AdafactorOptions{.learning_rate = Rate(0.03),
                                                         .eps1 = 1e-20,
                                                         .eps2 = 1e-2,
                                                         .clip_threshold = 0.8,
                                                         .decay_rate = -0.7,
                                                         .beta1 = 0.9,
                                                         .weight_decay = 0.01,
                                                         .scale_parameter = false,
                                                         .relative_step = false})},
      {"adafactor_warmup", made<Adafactor>(AdafactorOptions{.warmup_init = true})},
      {"muon", made<Muon>(MuonOptions{0.02})},
      {"muon_plain", made<Muon>(MuonOptions{0.02, 0.8, 0.0, false, 3})},
      {"adam_schedule", made<Adam>(AdamOptions{cosine_decay(0.05, 6, 0.01)})},
  };
}

struct Problem {
  Weights file = golden("optimizers");
  Weights parameters{{"w", file.at("w")}, {"v", file.at("v")}, {"t", file.at("t")}};

  Weights gradients(int step) const {
    Weights out;
    for (const auto& [name, p] : parameters)
      out.emplace(name, mx::take(file.at(name + ".g"), step, 0));
    return out;
  }
  int steps() const { return file.at("w.g").shape(0); }
};

TEST(Optimizers, EveryStepIsPythons) {
  const Problem problem;
  for (const auto& [name, make] : cases()) {
    const auto optimizer = make();
    Weights now = problem.parameters;
    for (int i = 0; i < problem.steps(); ++i) {
      now = optimizer->apply(problem.gradients(i), now);
      for (const auto& [parameter, value] : now)
        EXPECT_LE(
            largest_difference(
                value, mx::take(problem.file.at(fmt::format("{}.{}", name, parameter)), i, 0)),
            2e-6)
            << name << " " << parameter << " step " << i;
    }
  }
}

TEST(Optimizers, ARestoredStateGoesOnBitForBit) {
  const Problem problem;
  for (const auto& [name, make] : cases()) {
    const auto whole = make(), first = make(), second = make();
    Weights a = problem.parameters, b = problem.parameters;
    for (int i = 0; i < problem.steps(); ++i) {
      a = whole->apply(problem.gradients(i), a);
      if (i == 3) second->set_state(first->state());
      b = (i < 3 ? *first : *second).apply(problem.gradients(i), b);
    }
    for (const auto& [parameter, value] : a)
      EXPECT_TRUE(mx::array_equal(value, b.at(parameter)).item<bool>()) << name << " " << parameter;
  }
}

TEST(Optimizers, ScheduleAndStateNames) {
  Adam adam({.learning_rate = linear_schedule(0, 1, 10)});
  const Weights p{{"a.b", mx::ones({2})}};
  for (int i = 0; i < 3; ++i) adam.apply(p, p);
  EXPECT_FLOAT_EQ(adam.learning_rate().item<float>(), 0.2f);
  const auto state = adam.state();
  EXPECT_EQ(state.size(), 4u);
  EXPECT_EQ(mx::array(state.at("step")).item<uint64_t>(), 3u);
  EXPECT_TRUE(state.contains("a.b.m") && state.contains("a.b.v") &&
              state.contains("learning_rate"));
}

TEST(Optimizers, ParametersKeepTheirDtype) {
  for (const auto& [name, make] : cases()) {
    const Weights p{{"w", mx::ones({2, 2}, mx::bfloat16)}};
    EXPECT_EQ(make()->apply(p, p).at("w").dtype(), mx::bfloat16) << name;
  }
}

TEST(Optimizers, Several) {
  const auto make = [] {
    std::vector<std::unique_ptr<Optimizer>> all;
    all.push_back(std::make_unique<Muon>(MuonOptions{0.02}));
    all.push_back(
        std::make_unique<AdamW>(AdamWOptions{.learning_rate = 0.01, .weight_decay = 0.1}));
    return MultiOptimizer(std::move(all),
                          {[](const std::string&, const mx::array& g) { return g.ndim() >= 2; }});
  };
  const Problem problem;
  auto one = make(), two = make();
  Weights now = problem.parameters;
  for (int i = 0; i < problem.steps(); ++i) {
    if (i == 4) two.set_state(one.state());
    now = (i < 4 ? one : two).apply(problem.gradients(i), now);
  }
  const auto want = [&](const char* key) {
    return mx::take(problem.file.at(key), problem.steps() - 1, 0);
  };
  EXPECT_LE(largest_difference(now.at("w"), want("muon.w")), 2e-6);
  EXPECT_LE(largest_difference(now.at("v"), want("adamw.v")), 2e-6);
}

TEST(Optimizers, Faults) {
  EXPECT_NE(error_of([] { SGD({.learning_rate = 0.1, .nesterov = true}); }).find("Nesterov"),
            std::string::npos);
  EXPECT_NE(error_of([] { Adam({.learning_rate = 0.1, .beta1 = 1}); }).find("beta1"),
            std::string::npos);
  EXPECT_NE(error_of([] { Adafactor({.relative_step = false}); }).find("learning rate"),
            std::string::npos);
  SGD sgd({0.1});
  EXPECT_NE(error_of([&] { sgd.apply({{"x", mx::ones({2})}}, {}); }).find("'x'"),
            std::string::npos);
  EXPECT_NE(
      error_of([&] { sgd.apply({{"x", mx::ones({2})}}, {{"x", mx::ones({3})}}); }).find("[3]"),
      std::string::npos);
  EXPECT_NE(error_of([&] { sgd.set_state({}); }).find("'step'"), std::string::npos);
}

TEST(Schedules, EveryStepIsPythons) {
  const std::map<std::string, Schedule> schedules = {
      {"exponential", exponential_decay(0.1, 0.9)},
      {"step", step_decay(0.1, 0.5, 4)},
      {"cosine", cosine_decay(0.1, 12, 0.02)},
      {"linear", linear_schedule(0.0, 0.1, 7)},
      {"warmup_cosine", join_schedules({linear_schedule(0, 0.1, 5), cosine_decay(0.1, 10)}, {6})},
      {"three", join_schedules({linear_schedule(0, 0.1, 3), step_decay(0.1, 0.5, 2),
                                exponential_decay(0.05, 0.8)},
                               {3, 9})}};
  const auto file = golden("schedules");
  EXPECT_EQ(file.size(), schedules.size());
  for (const auto& [name, want] : file)
    for (int i = 0; i < want.shape(0); ++i)
      EXPECT_NEAR(schedules.at(name)(mx::array(static_cast<uint64_t>(i))).item<float>(),
                  mx::take(want, i, 0).item<float>(), 1e-8)
          << name << " " << i;
  EXPECT_NE(error_of([] { cosine_decay(1, 0); }).find("at least 1"), std::string::npos);
  EXPECT_NE(error_of([] { join_schedules({constant(1)}, {2}); }).find("boundaries"),
            std::string::npos);
}

TEST(Gradients, ClippedAsPython) {
  const Problem problem;
  const auto [clipped, norm] = clip_grad_norm(problem.gradients(0), 0.7);
  EXPECT_LE(largest_difference(norm, problem.file.at("clipped.norm")), 1e-6);
  for (const auto& [name, g] : clipped)
    EXPECT_LE(largest_difference(g, problem.file.at("clipped." + name)), 1e-7);
}

TEST(Gradients, AccumulatedAreTheMean) {
  GradientAccumulator sum;
  sum.add({{"x", mx::array({1.0f, 2.0f})}});
  sum.add({{"x", mx::array({3.0f, 6.0f})}});
  EXPECT_EQ(sum.count(), 2);
  EXPECT_TRUE(mx::array_equal(sum.take().at("x"), mx::array({2.0f, 4.0f})).item<bool>());
  EXPECT_EQ(sum.count(), 0);
}

}  // namespace
}  // namespace mlxcpp::optimizers

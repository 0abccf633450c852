// Losses against Python MLX (tests/scripts/make_training_goldens.py), and initialisers.
#include <gtest/gtest.h>

#include "nn/initializers.h"
#include "nn/losses.h"
#include "support/throws.h"
#include "tests/support/paths.h"

namespace mlxcpp::nn {
namespace {

using test::error_of;

TEST(Losses, AreAndDescendAsPythons) {
  auto [file, metadata] =
      mx::load_safetensors((test::golden_folder() / "training/losses.safetensors").string());
  const auto x = [&](const char* name) { return file.at(name); };
  using F = std::function<mx::array(const mx::array&)>;
  const auto weights = mx::abs(mx::take(x("a"), 0, 1));
  const std::map<std::string, std::pair<F, const char*>> cases = {
      {"cross_entropy", {[&](auto& l) { return cross_entropy(l, x("classes")); }, "logits"}},
      {"cross_entropy_mean",
       {[&](auto& l) {
          return cross_entropy(l, x("classes"), {.weights = weights, .reduction = Reduction::mean});
        },
        "logits"}},
      {"cross_entropy_smooth",
       {[&](auto& l) { return cross_entropy(l, x("classes"), {.label_smoothing = 0.2f}); },
        "logits"}},
      {"cross_entropy_probs",
       {[&](auto& l) { return cross_entropy(l, x("probabilities"), {.label_smoothing = 0.1f}); },
        "logits"}},
      {"cross_entropy_axis",
       {[&](auto& l) { return cross_entropy(mx::transpose(l), x("classes"), {.axis = 0}); },
        "logits"}},
      {"bce_logits", {[&](auto& a) { return binary_cross_entropy(a, x("positive")); }, "a"}},
      {"bce",
       {[&](auto& a) {
          return binary_cross_entropy(a, x("probabilities"), {}, false, Reduction::none);
        },
        "positive"}},
      {"l1", {[&](auto& a) { return l1_loss(a, x("b")); }, "a"}},
      {"mse", {[&](auto& a) { return mse_loss(a, x("b")); }, "a"}},
      {"nll", {[&](auto& a) { return nll_loss(a, x("classes")); }, "logits"}},
      {"gaussian_nll",
       {[&](auto& a) { return gaussian_nll_loss(a, x("b"), x("positive"), true); }, "a"}},
      {"kl_div", {[&](auto& a) { return kl_div_loss(a, mx::log(x("probabilities"))); }, "a"}},
      {"smooth_l1", {[&](auto& a) { return smooth_l1_loss(a, x("b"), 0.7f); }, "a"}},
      {"triplet", {[&](auto& a) { return triplet_loss(a, x("b"), x("c")); }, "a"}},
      {"hinge", {[&](auto& a) { return hinge_loss(a, x("sign")); }, "a"}},
      {"huber", {[&](auto& a) { return huber_loss(a, x("b"), 0.6f); }, "a"}},
      {"log_cosh", {[&](auto& a) { return log_cosh_loss(a, x("b")); }, "a"}},
      {"cosine", {[&](auto& a) { return cosine_similarity_loss(a, x("b")); }, "a"}},
      {"margin_ranking",
       {[&](auto& a) { return margin_ranking_loss(a, x("b"), x("sign"), 0.1f); }, "a"}},
  };
  size_t compared = 0;
  for (const auto& [name, grad] : file) {
    if (!name.ends_with(".grad")) continue;
    const std::string key = name.substr(0, name.size() - 5);
    ASSERT_TRUE(cases.contains(key)) << key;
    const auto& [f, first] = cases.at(key);
    const auto got = f(x(first)), want = x(key.c_str());
    EXPECT_EQ(got.shape(), want.shape()) << key;
    EXPECT_LE(mx::max(mx::abs(got - want)).item<float>(), 1e-5f) << key;
    const std::function<mx::array(const mx::array&)> sum = [&](const mx::array& v) {
      return mx::sum(f(v));
    };
    EXPECT_LE(mx::max(mx::abs(mx::grad(sum)(x(first)) - grad)).item<float>(), 1e-5f) << key;
    ++compared;
  }
  EXPECT_EQ(compared, cases.size());
}

TEST(Losses, ShapesMustFit) {
  const auto a = mx::zeros({2, 3}), b = mx::zeros({2, 4});
  EXPECT_NE(error_of([&] { mse_loss(a, b); }).find("[2, 4]"), std::string::npos);
  EXPECT_NE(error_of([&] { cross_entropy(a, mx::zeros({3}, mx::int32)); }).find("[3]"),
            std::string::npos);
  EXPECT_NE(error_of([&] { cross_entropy(a, a, {.label_smoothing = 1}); }).find("smoothing"),
            std::string::npos);
}

TEST(Initializers, SpreadAsTheyShould) {
  mx::random::seed(5);
  const auto like = mx::zeros({64, 3, 32});
  const auto deviation = [](const mx::array& a) {
    return mx::sqrt(mx::mean(mx::square(a))).item<float>();
  };
  EXPECT_NEAR(deviation(glorot_normal(2)(like)), 2 * std::sqrt(2.0f / (96 + 192)), 5e-3);
  EXPECT_NEAR(deviation(he_normal(Fan::out)(like)), 1 / std::sqrt(192.0f), 3e-3);
  const auto most = [](const mx::array& a) { return mx::max(mx::abs(a)).item<float>(); };
  EXPECT_NEAR(most(glorot_uniform()(like)), std::sqrt(6.0f / (96 + 192)), 2e-3);
  EXPECT_NEAR(most(he_uniform()(like)), std::sqrt(3.0f / 96), 2e-3);
  EXPECT_NEAR(most(uniform(-2, 1)(like)), 2, 2e-3);
  EXPECT_EQ(most(constant(7)(like)), 7);
  EXPECT_NEAR(deviation(normal(3, 0)(like)), 3, 1e-5);

  const auto q = orthogonal(2)(mx::zeros({8, 5}));
  EXPECT_LE(most(mx::matmul(mx::transpose(q), q) - mx::array(4.0f) * mx::eye(5)), 1e-4);
  const auto s = sparse(0.3)(mx::zeros({6, 10}));
  const auto zeros = mx::sum(mx::astype(mx::equal(s, mx::array(0.0f)), mx::int32), 1);
  EXPECT_TRUE(mx::all(mx::equal(zeros, mx::array(3))).item<bool>());
  EXPECT_TRUE(mx::array_equal(identity()(mx::zeros({3, 3})), mx::eye(3)).item<bool>());
  EXPECT_NE(error_of([&] { identity()(like); }).find("matrix"), std::string::npos);
  EXPECT_NE(error_of([&] { he_normal()(mx::zeros({3})); }).find("2 axes"), std::string::npos);
}

}  // namespace
}  // namespace mlxcpp::nn

// What a plan refuses. That steps give the bits of the operations that they stand for is shown with
// whole layers, in tests/llm/step_test.cpp.
#include "kernels/decoder_step.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "kernels/activations.h"
#include "kernels/linear.h"
#include "kernels/norm.h"

namespace mlxcpp::kernels {
namespace {

mx::array normal(const mx::Shape& shape, uint64_t seed) {
  return mx::random::normal(shape, mx::float32, 0, 0.3f, mx::random::key(seed));
}
LinearPart linear_part(int rows, int cols, uint64_t seed) {
  return {std::nullopt, normal({rows, cols}, seed), std::nullopt};
}

LayerPart mlp_part() {
  LayerPart part;
  part.mlp.emplace();
  part.mlp->frame.before = NormPart{false, 1e-5f, normal({64}, 1), std::nullopt};
  part.mlp->in = {linear_part(96, 64, 2), linear_part(96, 64, 3)};
  part.mlp->down = linear_part(64, 96, 4);
  return part;
}

AttentionPart attention_part() {
  AttentionPart part;
  part.heads = 4;
  part.kv_heads = 2;
  part.head_dim = 16;
  part.qkv = {linear_part(64, 64, 1), linear_part(32, 64, 2), linear_part(32, 64, 3)};
  part.out = linear_part(64, 64, 4);
  return part;
}

TEST(MlpStep, IsNormProductsActivationAndResidual) {
  const LayerPart part = mlp_part();
  const auto plan = LayerPlan::make(part);
  ASSERT_TRUE(plan);
  EXPECT_TRUE(plan->is_of(part));
  const auto x = normal({2, 3, 64}, 5), residual = normal({2, 3, 64}, 6);
  const auto h = rms_norm(x, part.mlp->frame.before->weight, 1e-5f);
  const auto want = residual + linear(swiglu(linear(h, *part.mlp->in[0].weight),
                                             linear(h, *part.mlp->in[1].weight)),
                                      *part.mlp->down.weight);
  EXPECT_TRUE(mx::array_equal(mlp_step(x, residual, plan), want).item<bool>());
  EXPECT_TRUE(mx::array_equal(mlp_step(mx::swapaxes(mx::swapaxes(x, 1, 2) + mx::array(0.0f), 1, 2),
                                       residual, plan),
                              want)
                  .item<bool>());  // in another layout
}

TEST(MlpStep, RefusesWhatDoesNotFit) {
  const auto plan = LayerPlan::make(mlp_part());
  const auto x = normal({1, 2, 64}, 5);
  EXPECT_THROW(mlp_step(normal({1, 2, 32}, 5), normal({1, 2, 32}, 5), plan), Error);
  EXPECT_THROW(mlp_step(normal({2, 64}, 5), normal({2, 64}, 5), plan), Error);
  EXPECT_THROW(mlp_step(x, normal({1, 1, 64}, 5), plan), Error);
  EXPECT_THROW(mlp_step(normal({1, 0, 64}, 5), normal({1, 0, 64}, 5), plan), Error);
  EXPECT_THROW(mlp_step(normal({3, 3, 64}, 5), normal({3, 3, 64}, 5), plan), Error);
  EXPECT_THROW(mlp_step(mx::astype(x, mx::bfloat16), x, plan), Error);
  EXPECT_THROW(mlp_step(x, mx::astype(x, mx::float16), plan), Error);
}

TEST(LayerPlan, NoneWherePartsDoNotFit) {
  const auto none = [](auto&& change) {
    LayerPart part = mlp_part();
    part.attention = attention_part();
    EXPECT_TRUE(LayerPlan::make(part));
    change(part);
    return LayerPlan::make(part) == nullptr;
  };
  EXPECT_TRUE(none([](LayerPart& p) { p.mlp->down = linear_part(64, 80, 1); }));
  EXPECT_TRUE(none([](LayerPart& p) { p.mlp->down = linear_part(32, 96, 1); }));
  EXPECT_TRUE(none([](LayerPart& p) { p.mlp->in.pop_back(); }));
  EXPECT_TRUE(none([](LayerPart& p) { p.mlp->in[1] = linear_part(64, 64, 1); }));
  EXPECT_TRUE(none([](LayerPart& p) { p.mlp->down.bias = normal({63}, 1); }));
  EXPECT_TRUE(none([](LayerPart& p) { p.mlp->frame.before->weight = normal({32}, 1); }));
  EXPECT_TRUE(none([](LayerPart& p) { p.mlp->down.weight = mx::zeros({64, 96}, mx::int32); }));
  EXPECT_TRUE(none([](LayerPart& p) { p.mlp->down = {}; }));
  EXPECT_TRUE(none([](LayerPart& p) { p.attention->kv_heads = 3; }));
  EXPECT_TRUE(none([](LayerPart& p) { p.attention->head_dim = 32; }));
  EXPECT_TRUE(none([](LayerPart& p) { p.attention->grouped = true; }));
  EXPECT_TRUE(none([](LayerPart& p) { p.attention->qkv.pop_back(); }));
  EXPECT_TRUE(none([](LayerPart& p) { p.attention->q_norm = NormPart{}; }));
  EXPECT_TRUE(none([](LayerPart& p) { p.attention->out = linear_part(64, 32, 1); }));
  EXPECT_FALSE(LayerPlan::make({}));
}

TEST(LayerPlan, IsOfTheVeryArrays) {
  LayerPart part = mlp_part();
  const auto plan = LayerPlan::make(part);
  EXPECT_TRUE(plan->is_of(part));
  LayerPart other = part;
  other.mlp->frame.multiplier = 2.0f;
  EXPECT_FALSE(plan->is_of(other));
  other = part;
  other.mlp->down.weight = *part.mlp->down.weight + mx::array(0.0f);
  EXPECT_FALSE(plan->is_of(other));
}

}  // namespace
}  // namespace mlxcpp::kernels

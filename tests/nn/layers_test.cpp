#include <gtest/gtest.h>

#include "near.h"
#include "nn/norm.h"

namespace mlxcpp::nn {
namespace {
using test::near;

TEST(RMSNorm, GemmasGainIsRoundedOnce) {
  // 1 + w does not fit bfloat16: rounding it first would lose w.
  RMSNorm norm(4, 0.0f, true);
  norm.weight.set(mx::full({4}, 0.001f, mx::bfloat16));
  const auto x = mx::full({1, 4}, 3.0f, mx::float32);
  EXPECT_TRUE(near(norm(x), mx::full({1, 4}, 1.0f + 0.00099945f), 1e-6f));
  EXPECT_EQ(norm(mx::astype(x, mx::bfloat16)).dtype(), mx::bfloat16);
}

}  // namespace
}  // namespace mlxcpp::nn

#include "nn/rope.h"

#include <gtest/gtest.h>

namespace mlxcpp::nn {
TEST(Rope, Builds) { EXPECT_EQ(RoPE(8).dims(), 8); }
}  // namespace mlxcpp::nn

#pragma once

#include <gtest/gtest.h>
#include <mlx/mlx.h>

namespace mlxcpp::test {

namespace mx = mlx::core;

// |got - want| <= tolerance * max(1, |want|) everywhere, shapes equal; says by how much it is off.
inline ::testing::AssertionResult near(const mx::array& got, const mx::array& want,
                                       float tolerance = 1e-5f) {
  if (got.shape() != want.shape())
    return ::testing::AssertionFailure() << "shapes differ: " << got << " and " << want;
  if (got.size() == 0) return ::testing::AssertionSuccess();
  const auto g = mx::astype(got, mx::float32), w = mx::astype(want, mx::float32);
  const auto error = mx::abs(g - w) / mx::maximum(mx::abs(w), mx::array(1.0f));
  const auto off = mx::max(mx::where(mx::isnan(error), mx::array(INFINITY), error)).item<float>();
  if (off <= tolerance) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "off by " << off << " (tolerance " << tolerance << ")\n"
                                       << "got  " << got << "\nwant " << want;
}

}  // namespace mlxcpp::test

#pragma once

#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <mlx/mlx.h>

#include "kernels/isa.h"
#include "kernels/thread_pool.h"

// What the tests of kernels share.
namespace mlxcpp::kernels::testing {

namespace mx = mlx::core;

inline const std::vector<mx::Dtype> kFloatDtypes = {mx::float32, mx::bfloat16, mx::float16};

// Units in the last place of 1.
inline double epsilon(mx::Dtype dtype) {
  return dtype == mx::float32 ? 0x1p-23 : dtype == mx::float16 ? 0x1p-10 : 0x1p-7;
}

// Normal numbers, the same for the same seed.
inline mx::array random(const mx::Shape& shape, mx::Dtype dtype, uint64_t seed, float scale = 1) {
  return mx::astype(mx::random::normal(shape, mx::float32, 0, scale, mx::random::key(seed)), dtype);
}

// The elements in order, whatever the layout.
inline std::vector<double> values(const mx::array& a) {
  auto c = mx::contiguous(mx::astype(a, mx::float64));
  c.eval();
  return {c.data<double>(), c.data<double>() + c.size()};
}

// max |got - want| <= tolerance * max(1, max |want|).
// Where `want` is not finite, `got` must be the same.
inline void expect_close(const mx::array& got, const mx::array& want, double tolerance,
                         const std::string& what = "") {
  ASSERT_EQ(got.shape(), want.shape()) << what;
  const auto g = values(got), w = values(want);
  double largest = 1, worst = 0;
  size_t where = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    if (!std::isfinite(w[i])) {
      ASSERT_TRUE(std::isnan(w[i]) ? std::isnan(g[i]) : g[i] == w[i])
          << what << " at " << i << ": " << g[i] << ", not " << w[i];
      continue;
    }
    largest = std::max(largest, std::abs(w[i]));
    const double error = std::abs(g[i] - w[i]);
    if (!(error <= worst)) {
      worst = error;
      where = i;
    }
  }
  EXPECT_LE(worst, tolerance * largest)
      << what << " at " << where << ": " << g[where] << ", not " << w[where];
}

inline bool same_bits(const mx::array& a, const mx::array& b) {
  const auto bytes = [](const mx::array& x) {
    auto c = mx::contiguous(mx::view(x, x.itemsize() == 4 ? mx::uint32 : mx::uint16));
    c.eval();
    const char* p = c.data<char>();
    return std::string(p, p + c.nbytes());
  };
  return a.shape() == b.shape() && a.dtype() == b.dtype() && bytes(a) == bytes(b);
}

// f() under every instruction set that the CPU has.
inline void for_each_isa(const std::function<void()>& f) {
  const Isa before = isa();
  for (const Isa i : available_isas()) {
    SCOPED_TRACE(std::string(name(i)));
    set_isa(i);
    f();
    mx::synchronize();
  }
  set_isa(before);
}

// f() gives the same bits with 1 thread and with several.
inline void expect_same_for_any_threads(const std::function<mx::array()>& f) {
  const int before = num_threads();
  set_num_threads(1);
  auto one = f();
  one.eval();
  for (const int threads : {2, 5}) {
    set_num_threads(threads);
    auto many = f();
    many.eval();
    EXPECT_TRUE(same_bits(one, many)) << threads << " threads";
  }
  set_num_threads(before);
}

}  // namespace mlxcpp::kernels::testing

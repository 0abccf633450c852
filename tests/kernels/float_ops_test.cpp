// Norms, activations, rope, softmax and the choice of logits as MLX operations, against plain ones.

#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "core/error.h"
#include "kernel_testing.h"
#include "kernels/activations.h"
#include "kernels/norm.h"
#include "kernels/norm_fused.h"
#include "kernels/rope.h"
#include "kernels/sampling.h"
#include "kernels/softmax.h"

namespace mlxcpp::kernels {
namespace {

using namespace testing;

using Unary = std::function<mx::array(const mx::array&)>;

// References are computed in f64: sums of MLX's plain f32 operations are less exact than ours.
mx::array wide(const mx::array& x) { return mx::astype(x, mx::float64); }
mx::array wide(double x) { return mx::array(x, mx::float64); }

mx::array plain_rms(const mx::array& x) {
  return x * mx::rsqrt(mx::mean(mx::square(x), -1, true) + wide(1e-5f));
}
mx::array plain_layer(const mx::array& x) {
  const auto d = x - mx::mean(x, -1, true);
  return d * mx::rsqrt(mx::mean(mx::square(d), -1, true) + wide(1e-5f));
}
mx::array plain_log_softmax(const mx::array& x) {
  const auto d = x - mx::max(x, -1, true);
  return d - mx::log(mx::sum(mx::exp(d), -1, true));
}

// Layouts of one shape: as made, transposed, every second element, a part of a larger array,
// broadcast.
std::vector<std::pair<std::string, mx::array>> layouts(mx::Dtype dtype) {
  std::vector<std::pair<std::string, mx::array>> out;
  for (const mx::Shape& shape : std::vector<mx::Shape>{
           {1}, {5}, {1, 64}, {3, 7}, {2, 3, 33}, {2, 4, 5, 16}, {1, 1, 576}, {20000}, {2, 17001}})
    out.emplace_back(fmt::format("shape {}", fmt::join(shape, "x")), random(shape, dtype, 1, 3));
  out.emplace_back("transposed", mx::transpose(random({2, 5, 3, 16}, dtype, 2, 3), {0, 2, 1, 3}));
  out.emplace_back("transposed last", mx::transpose(random({19, 6}, dtype, 3, 3)));
  out.emplace_back("every second",
                   mx::slice(random({4, 66}, dtype, 4, 3), {0, 1}, {4, 66}, {1, 2}));
  out.emplace_back("part", mx::slice(random({6, 40}, dtype, 5, 3), {1, 3}, {5, 36}));
  out.emplace_back("backwards",
                   mx::slice(random({3, 21}, dtype, 5, 3), {0, 20}, {3, -22}, {1, -1}));
  out.emplace_back("broadcast", mx::broadcast_to(random({1, 24}, dtype, 6, 3), {5, 24}));
  return out;
}

// got(x) in x's dtype is want(x in f64) up to `factor` roundings to the dtype.
void check_all(const Unary& got, const Unary& want, double factor = 1) {
  for_each_isa([&] {
    for (const mx::Dtype dtype : kFloatDtypes)
      for (const auto& [what, x] : layouts(dtype)) {
        const auto y = got(x);
        EXPECT_EQ(y.dtype(), dtype);
        expect_close(y, want(wide(x)), factor * epsilon(dtype), what);
      }
  });
}

TEST(Activations, EqualPlainOperations) {
  const auto gelu_wanted = [](const mx::array& x) {
    return x * wide(0.5) * (wide(1) + mx::erf(x * wide(M_SQRT1_2)));
  };
  const auto approx_wanted = [](const mx::array& x) {
    const auto inner = wide(std::sqrt(2 / M_PI)) * (x + wide(0.044715) * x * x * x);
    return wide(0.5) * x * (wide(1) + mx::tanh(inner));
  };
  const auto silu_wanted = [](const mx::array& x) { return x / (wide(1) + mx::exp(-x)); };
  check_all(silu, silu_wanted, 4);
  check_all(gelu, gelu_wanted, 4);
  check_all(gelu_approx, approx_wanted, 4);
  const auto other = [](const mx::array& x) { return mx::flip(x) + mx::array(0.5f, x.dtype()); };
  const auto gated = [&](auto f, auto want) {
    check_all([=](const mx::array& x) { return f(x, other(x)); },
              [=](const mx::array& x) { return want(x) * other(x); }, 8);
  };
  gated(swiglu, silu_wanted);
  gated(geglu, gelu_wanted);
  gated(geglu_approx, approx_wanted);
}

// The halves of one array, as a fused gate and up projection leaves them.
TEST(Activations, GateAndUpMayBeHalvesOfOneArray) {
  const auto both = random({3, 5, 96}, mx::float32, 9);
  const auto parts = mx::split(both, 2, -1);
  expect_close(swiglu(parts[0], parts[1]), parts[0] * mx::sigmoid(parts[0]) * parts[1], 1e-6);
  expect_close(swiglu(parts[0], mx::contiguous(parts[1])),
               parts[0] * mx::sigmoid(parts[0]) * parts[1], 1e-6);
}

TEST(Activations, RefuseDifferentShapes) {
  EXPECT_THROW(swiglu(mx::zeros({2, 3}), mx::zeros({3, 2})), Error);
}

TEST(Activations, WorkInPlaceWithoutHarm) {
  auto x = random({1000}, mx::float32, 1);
  x.eval();
  const auto y = silu(silu(silu(x)));  // the second and third may take over their input's memory
  const auto s = [](const mx::array& a) { return a * mx::sigmoid(a); };
  expect_close(y, s(s(s(x))), 1e-6);
  expect_close(x, random({1000}, mx::float32, 1), 0);
}

TEST(Norms, EqualPlainOperations) {
  const auto weight_of = [](const mx::array& x, uint64_t seed) {
    return random({x.shape(-1)}, x.dtype(), seed);
  };
  check_all([](const mx::array& x) { return rms_norm(x, std::nullopt, 1e-5f); }, plain_rms, 2);
  check_all([](const mx::array& x) { return layer_norm(x, std::nullopt, std::nullopt, 1e-5f); },
            plain_layer, 2);
  for_each_isa([&] {
    for (const mx::Dtype dtype : kFloatDtypes)
      for (const auto& [what, x] : layouts(dtype)) {
        const auto w = weight_of(x, 11), b = weight_of(x, 12);
        const auto x64 = wide(x);
        expect_close(rms_norm(x, w, 1e-5f), plain_rms(x64) * wide(w), 4 * epsilon(dtype), what);
        expect_close(layer_norm(x, w, b, 1e-5f), plain_layer(x64) * wide(w) + wide(b),
                     4 * epsilon(dtype), what);
        expect_close(layer_norm(x, std::nullopt, b, 1e-5f), plain_layer(x64) + wide(b),
                     4 * epsilon(dtype), what);
      }
  });
}

TEST(Norms, FusedWithWhatFollows) {
  for_each_isa([] {
    for (const int n : {1, 7, 64, 640}) {
      const auto x = random({2, 5, n}, mx::float32, 1, 3), w = random({n}, mx::float32, 2);
      const auto rest = mx::transpose(random({5, 2, n}, mx::float32, 3), {1, 0, 2});
      const auto normed = plain_rms(wide(x)) * wide(w);
      expect_close(rms_norm_gelu_approx(x, w, 1e-5f), gelu_approx(mx::astype(normed, mx::float32)),
                   2e-6);
      expect_close(rms_norm_add(x, w, rest, 1e-5f), normed + wide(rest), 1e-6);
      expect_close(scale_add(x, w, rest), wide(x) * wide(w) + wide(rest), 1e-6);
      EXPECT_TRUE(
          same_bits(add_layer_norm(x, rest, w, w, 1e-5f), layer_norm(x + rest, w, w, 1e-5f)));
      EXPECT_TRUE(same_bits(add_layer_norm(rest, x, w, std::nullopt, 1e-5f),
                            layer_norm(x + rest, w, std::nullopt, 1e-5f)));
      EXPECT_TRUE(same_bits(add_bias(x, w), x + w));
      EXPECT_TRUE(same_bits(add_bias(rest, w), rest + w));
    }
  });
  const auto x = random({3, 8}, mx::float32, 1), w = random({8}, mx::float32, 2);
  const auto half = mx::astype(x, mx::bfloat16);
  EXPECT_EQ(rms_norm_add(half, mx::astype(w, mx::bfloat16), half, 1e-5f).dtype(), mx::bfloat16);
  expect_close(rms_norm_add(half, w, half, 1e-5f),
               rms_norm(mx::astype(half, mx::float32), w, 1e-5f) + half, 1e-6);
  const auto slope = [&](auto f) {
    return mx::grad([&](const mx::array& a) { return mx::sum(mx::square(f(a))); })(x);
  };
  expect_close(slope([&](const mx::array& a) { return rms_norm_add(a, w, x, 1e-5f); }),
               slope([&](const mx::array& a) { return rms_norm(a, w, 1e-5f) + x; }), 1e-5);
  expect_close(slope([&](const mx::array& a) { return add_layer_norm(x, a, w, w, 1e-5f); }),
               slope([&](const mx::array& a) { return layer_norm(x + a, w, w, 1e-5f); }), 1e-5);
  expect_close(slope([&](const mx::array& a) { return add_bias(a, w); }),
               slope([&](const mx::array& a) { return a + w; }), 1e-6);
  EXPECT_THROW(rms_norm_gelu_approx(x, mx::ones({7}), 1e-5f), Error);
  EXPECT_THROW(add_layer_norm(x, x, w, mx::ones({7}), 1e-5f), Error);
  EXPECT_THROW(add_bias(x, mx::ones({3})), Error);
  EXPECT_THROW(scale_add(x, w, mx::ones({2, 8})), Error);
}

TEST(Norms, TakeTheWiderTypeAndStridedWeights) {
  const auto x = random({3, 16}, mx::bfloat16, 1);
  const auto weights = random({32}, mx::float32, 2);
  const auto w = mx::slice(weights, {0}, {32}, {2});
  const auto y = rms_norm(x, w, 1e-6f);
  EXPECT_EQ(y.dtype(), mx::float32);
  expect_close(y, mx::fast::rms_norm(wide(x), mx::contiguous(w), 1e-6f), 1e-6);
  expect_close(rms_norm(x, mx::broadcast_to(mx::array(2.0f), {16}), 1e-6f),
               mx::array(2.0f) * mx::fast::rms_norm(wide(x), std::nullopt, 1e-6f), 1e-6);
}

TEST(Norms, DoNotOverflowInHalves) {
  const auto x = mx::full({2, 64}, mx::array(60000.0f, mx::float16));
  expect_close(rms_norm(x, std::nullopt, 1e-5f), mx::ones({2, 64}), 1e-3);
  expect_close(layer_norm(x, std::nullopt, std::nullopt, 1e-5f), mx::zeros({2, 64}), 1e-3);
}

TEST(Norms, RefuseWrongShapes) {
  const auto x = mx::zeros({2, 8});
  EXPECT_THROW(rms_norm(x, mx::ones({7}), 1e-5f), Error);
  EXPECT_THROW(rms_norm(x, mx::ones({1, 8}), 1e-5f), Error);
  EXPECT_THROW(layer_norm(x, mx::ones({8}), mx::ones({9}), 1e-5f), Error);
  EXPECT_THROW(rms_norm(mx::array(1.0f), std::nullopt, 1e-5f), Error);
}

TEST(EmptyArrays, GiveEmptyResults) {
  for (const mx::Shape& shape : std::vector<mx::Shape>{{0}, {0, 8}, {2, 0, 8}}) {
    const auto x = mx::zeros(shape);
    EXPECT_EQ(silu(x).shape(), shape);
    EXPECT_EQ(values(swiglu(x, x)).size(), 0u);
    EXPECT_EQ(values(kernels::softmax(x)).size(), 0u);
    if (shape.back() > 0) {
      EXPECT_EQ(values(rms_norm(x, mx::ones({8}), 1e-5f)).size(), 0u);
    }
  }
  const auto x = mx::zeros({1, 2, 0, 8});
  EXPECT_EQ(values(rope(x, 8, false, mx::ones({4}), 1, 0)).size(), 0u);
}

// The definition, in double.
std::vector<double> rope_by_hand(const mx::array& x, int dims, bool traditional,
                                 const std::vector<float>& freq, float scale,
                                 const std::vector<int>& starts) {
  auto v = values(x);
  const int B = x.shape(0), L = x.shape(-2), D = x.shape(-1);
  const int H = static_cast<int>(x.size()) / (B * L * D);
  for (int b = 0; b < B; ++b)
    for (int h = 0; h < H; ++h)
      for (int l = 0; l < L; ++l)
        for (int i = 0; i < dims / 2; ++i) {
          double* row = v.data() + ((b * H + h) * L + l) * static_cast<size_t>(D);
          double& p = row[traditional ? 2 * i : i];
          double& q = row[traditional ? 2 * i + 1 : i + dims / 2];
          const double angle = static_cast<float>(starts[b] + l) * freq[i];
          const double c = scale * std::cos(angle), s = scale * std::sin(angle), a = p;
          p = a * c - q * s;
          q = a * s + q * c;
        }
  return v;
}

TEST(Rope, EqualsItsDefinition) {
  for_each_isa([&] {
    for (const mx::Dtype dtype : kFloatDtypes)
      for (const auto& [B, H, L, D, dims] : std::vector<std::array<int, 5>>{{1, 1, 1, 2, 2},
                                                                            {1, 3, 5, 64, 64},
                                                                            {2, 2, 7, 13, 6},
                                                                            {3, 1, 4, 34, 34},
                                                                            {2, 9, 3, 64, 32},
                                                                            {1, 2, 2, 600, 580}})
        for (const bool traditional : {false, true})
          for (const bool transposed : {false, true}) {
            const auto made =
                random(transposed ? mx::Shape{B, L, H, D} : mx::Shape{B, H, L, D}, dtype, 3);
            const auto x = transposed ? mx::transpose(made, {0, 2, 1, 3}) : made;
            std::vector<float> freq;
            for (int i = 0; i < dims / 2; ++i)
              freq.push_back(std::pow(10000.0f, -2.0f * static_cast<float>(i) / dims));
            const auto inv_freq = mx::array(freq.data(), {dims / 2});
            for (const float scale : {1.0f, 1.25f}) {
              const auto check = [&](const Positions& p, const std::vector<int>& starts) {
                const auto y = rope(x, dims, traditional, inv_freq, scale, p);
                EXPECT_EQ(y.dtype(), dtype);
                const auto want = rope_by_hand(x, dims, traditional, freq, scale, starts);
                expect_close(y, mx::array(want.begin(), x.shape(), mx::float64),
                             2 * epsilon(dtype));
              };
              check(0, std::vector<int>(B, 0));
              check(1000, std::vector<int>(B, 1000));
              std::vector<int> starts;
              for (int b = 0; b < B; ++b) starts.push_back(5 - 3 * b);
              check(mx::array(starts.data(), {B}), starts);
              check(mx::array(7), std::vector<int>(B, 7));
            }
          }
  });
}

TEST(Rope, AgreesWithItsFallback) {
  const auto x = random({2, 3, 4, 16}, mx::float32, 1);
  const auto inv_freq = mx::exp(-mx::arange(4));
  const auto loss = [&](const mx::array& a) {
    return mx::sum(mx::square(rope(a, 8, false, inv_freq, 1.5f, mx::array({3, 9}))) *
                   mx::arange(16));
  };
  // A rotation's derivative is known: compare with differences.
  const auto g = mx::grad(loss)(x);
  const auto direction = random(x.shape(), mx::float32, 5);
  const auto step = mx::array(1e-2f);
  const auto slope = (loss(x + step * direction) - loss(x - step * direction)) / (step + step);
  expect_close(mx::sum(g * direction), slope, 2e-3);
}

TEST(Rope, RefusesWrongShapes) {
  const auto x = mx::zeros({1, 2, 3, 8});
  EXPECT_THROW(rope(x, 7, false, mx::ones({3}), 1, 0), Error);
  EXPECT_THROW(rope(x, 10, false, mx::ones({5}), 1, 0), Error);
  EXPECT_THROW(rope(x, 8, false, mx::ones({3}), 1, 0), Error);
  EXPECT_THROW(rope(x, 8, false, mx::ones({4}), 1, mx::array({1, 2})), Error);
  EXPECT_THROW(rope(x, 8, false, mx::ones({4}), 1, mx::array(1.5f)), Error);
  EXPECT_THROW(rope(mx::zeros({3, 8}), 8, false, mx::ones({4}), 1, 0), Error);
}

TEST(Softmax, EqualsPlainOperations) {
  check_all([](const mx::array& x) { return kernels::softmax(x); },
            [](const mx::array& x) { return mx::exp(plain_log_softmax(x)); });
  check_all([](const mx::array& x) { return log_softmax(x); }, plain_log_softmax, 4);
}

TEST(Softmax, LongRowsOfLargeAndMissingLogits) {
  for_each_isa([&] {
    auto x = random({2, 50001}, mx::float32, 4, 20);
    x = mx::where(mx::less(mx::arange(50001), mx::array(30000)), mx::array(-INFINITY),
                  x + mx::array(500.0f));
    expect_close(kernels::softmax(x), mx::exp(plain_log_softmax(wide(x))), 1e-6);
    expect_close(log_softmax(x), plain_log_softmax(wide(x)), 1e-6);
    const auto nothing = mx::full({1, 40000}, mx::array(-INFINITY));
    for (const double p : values(kernels::softmax(nothing))) ASSERT_TRUE(std::isnan(p));
  });
}

TEST(Argmax, EqualsPlainOperations) {
  for_each_isa([&] {
    for (const mx::Dtype dtype : kFloatDtypes)
      for (const auto& [what, x] : layouts(dtype)) {
        const auto y = kernels::argmax(x);
        EXPECT_EQ(y.dtype(), mx::uint32);
        EXPECT_EQ(values(y), values(mx::argmax(mx::contiguous(x), -1))) << what;
      }
  });
}

TEST(Argmax, FirstOfEqualsAndNoNaN) {
  for_each_isa([&] {
    std::vector<float> v(40000, 1.0f);
    v[3] = v[17] = v[39999] = 2.0f;
    v[0] = v[20000] = NAN;
    EXPECT_EQ(kernels::argmax(mx::array(v.data(), {40000})).item<uint32_t>(), 3u);
    std::vector<float> missing(100, -INFINITY);
    EXPECT_EQ(kernels::argmax(mx::array(missing.data(), {100})).item<uint32_t>(), 0u);
    missing[60] = -1e30f;
    EXPECT_EQ(kernels::argmax(mx::array(missing.data(), {100})).item<uint32_t>(), 60u);
  });
  EXPECT_THROW(kernels::argmax(mx::zeros({3, 0})), Error);
}

TEST(TopK, FindsTheBestInOrder) {
  for_each_isa([&] {
    for (const mx::Dtype dtype : kFloatDtypes)
      for (const auto& [what, x] : layouts(dtype))
        for (const int k : {1, 2, 40, 1000}) {
          if (k > x.shape(-1)) continue;
          const auto top = top_k(x, k);
          EXPECT_EQ(top.values.dtype(), dtype);
          // A stable order by value, in the open.
          const auto v = values(x), got = values(top.indices);
          const auto got_values = values(top.values);
          const size_t n = x.shape(-1), rows = x.size() / n;
          for (size_t r = 0; r < rows; ++r) {
            std::vector<size_t> order(n);
            std::iota(order.begin(), order.end(), 0);
            std::stable_sort(order.begin(), order.end(),
                             [&](size_t a, size_t b) { return v[r * n + a] > v[r * n + b]; });
            for (int i = 0; i < k; ++i) {
              ASSERT_EQ(got[r * k + i], static_cast<double>(order[i])) << what << ", k " << k;
              ASSERT_EQ(got_values[r * k + i], v[r * n + order[i]]) << what;
            }
          }
        }
  });
}

TEST(TopK, FillsUpWithMissingLogits) {
  for_each_isa([&] {
    std::vector<float> v(20, -INFINITY);
    v[7] = 1;
    v[3] = NAN;
    const auto top = top_k(mx::array(v.data(), {20}), 4);
    EXPECT_EQ(values(top.indices), (std::vector<double>{7, 0, 1, 2}));
    const auto all = top_k(mx::array(v.data(), {20}), 20);
    auto ids = values(all.indices);
    std::sort(ids.begin(), ids.end());
    for (int i = 0; i < 20; ++i) EXPECT_EQ(ids[i], i);
  });
  EXPECT_THROW(top_k(mx::zeros({4}), 5), Error);
  EXPECT_THROW(top_k(mx::zeros({4}), 0), Error);
}

TEST(Gradients, EqualThoseOfPlainOperations) {
  const auto x = random({3, 16}, mx::float32, 1), w = random({16}, mx::float32, 2);
  const auto same = [&](const Unary& f, const Unary& plain) {
    const auto weights = random({3, 16}, mx::float32, 8);
    const auto grad = [&](const Unary& g) {
      return mx::grad([&](const mx::array& a) { return mx::sum(g(a) * weights); })(x);
    };
    expect_close(grad(f), grad(plain), 1e-5);
    // Forward mode, and mapped over rows.
    expect_close(mx::jvp(f, x, weights).second, mx::jvp(plain, x, weights).second, 1e-5);
    expect_close(mx::vmap(f)(x), plain(x), 1e-5);
  };
  same(silu, [](const mx::array& a) { return a * mx::sigmoid(a); });
  same([&](const mx::array& a) { return swiglu(a, mx::square(a)); },
       [](const mx::array& a) { return a * mx::sigmoid(a) * mx::square(a); });
  same([&](const mx::array& a) { return rms_norm(a, w, 1e-5f); },
       [&](const mx::array& a) {
         return w * a * mx::rsqrt(mx::mean(mx::square(a), -1, true) + mx::array(1e-5f));
       });
  same([](const mx::array& a) { return kernels::softmax(a); },
       [](const mx::array& a) { return mx::softmax(a, -1); });
  const auto weight_grad =
      mx::grad([&](const mx::array& a) { return mx::sum(mx::square(rms_norm(x, a, 1e-5f))); })(w);
  expect_close(weight_grad, mx::grad([&](const mx::array& a) {
                 return mx::sum(mx::square(mx::fast::rms_norm(x, a, 1e-5f)));
               })(w),
               1e-5);
}

TEST(AnyThreadCount, GivesTheSameBits) {
  for_each_isa([&] {
    const auto x = random({3, 70001}, mx::float32, 1);
    const auto rows = random({301, 576}, mx::bfloat16, 1);
    expect_same_for_any_threads([&] { return kernels::softmax(x); });
    expect_same_for_any_threads([&] { return log_softmax(x); });
    expect_same_for_any_threads([&] { return top_k(x, 50).values; });
    expect_same_for_any_threads([&] { return kernels::argmax(x); });
    expect_same_for_any_threads([&] { return rms_norm(rows, std::nullopt, 1e-5f); });
    expect_same_for_any_threads([&] { return swiglu(rows, rows); });
    const auto heads = random({2, 3, 100, 64}, mx::float32, 2);
    expect_same_for_any_threads(
        [&] { return rope(heads, 64, false, mx::exp(-mx::arange(32)), 1, 5); });
  });
}

TEST(Compiled, SeesThroughOurPrimitives) {
  const auto f = [](const std::vector<mx::array>& in) {
    return std::vector<mx::array>{silu(in[0]) + silu(in[0]) + gelu(in[0])};
  };
  const auto x = random({4, 32}, mx::float32, 3);
  expect_close(mx::compile(f)({x})[0], f({x})[0], 1e-6);
}

}  // namespace
}  // namespace mlxcpp::kernels

// Backward passes: against plain MLX operations, and by finite differences.
#include "kernel_testing.h"
#include "kernels/activations.h"
#include "kernels/attention.h"
#include "kernels/cross_entropy.h"
#include "kernels/linear.h"
#include "kernels/norm.h"
#include "kernels/quantized.h"
#include "kernels/rope.h"
#include "support/throws.h"

namespace mlxcpp::kernels::testing {
namespace {

using Arrays = std::vector<mx::array>;
using F = std::function<mx::array(const Arrays&)>;

// Gradients of sum(f(in) * weights) with respect to every input.
Arrays gradients(const F& f, const Arrays& in) {
  const std::function<mx::array(const Arrays&)> loss = [&](const Arrays& x) {
    const auto y = f(x);
    return mx::sum(y * random(y.shape(), mx::float32, 99));
  };
  std::vector<int> all;
  for (size_t i = 0; i < in.size(); ++i) all.push_back(static_cast<int>(i));
  return mx::grad(loss, all)(in);
}

void expect_same_gradients(const std::string& what, const F& kernel, const F& plain,
                           const Arrays& in, double tolerance = 2e-5) {
  const auto want = gradients(plain, in);
  for_each_isa([&] {
    const auto got = gradients(kernel, in);
    for (size_t i = 0; i < in.size(); ++i)
      expect_close(got[i], want[i], tolerance, fmt::format("{}, input {}", what, i));
  });
}

// Along random directions, in double steps of f32 values: coarse, but independent of any formula.
void expect_finite_differences(const std::string& what, const F& f, const Arrays& in,
                               double tolerance = 2e-2) {
  const auto loss = [&](const Arrays& x) {
    const auto y = f(x);
    return mx::sum(mx::astype(y * random(y.shape(), mx::float32, 99), mx::float64),
                   /* keepdims */ false);
  };
  const auto grads = gradients(f, in);
  for (size_t i = 0; i < in.size(); ++i) {
    const auto direction = random(in[i].shape(), mx::float32, 7 + i);
    const float h = 1e-2f;
    Arrays up = in, down = in;
    up[i] = in[i] + direction * mx::array(h);
    down[i] = in[i] - direction * mx::array(h);
    const double slope = (values(loss(up))[0] - values(loss(down))[0]) / (2.0 * h);
    const double want = values(mx::sum(grads[i] * direction))[0];
    EXPECT_NEAR(slope, want, tolerance * std::max(1.0, std::abs(want))) << what << ", input " << i;
  }
}

TEST(Gradients, Activations) {
  const Arrays x{random({3, 37}, mx::float32, 1, 2)};
  const Arrays both{x[0], random({3, 37}, mx::float32, 2)};
  const auto tanh_gelu = [](const mx::array& v) {
    return mx::array(0.5f) * v *
           (mx::array(1.0f) +
            mx::tanh(mx::array(0.7978845608f) * (v + mx::array(0.044715f) * v * v * v)));
  };
  const auto erf_gelu = [](const mx::array& v) {
    return mx::array(0.5f) * v * (mx::array(1.0f) + mx::erf(v * mx::array(0.70710678f)));
  };
  const auto plain_silu = [](const mx::array& v) { return v * mx::sigmoid(v); };
  expect_same_gradients(
      "silu", [](auto& i) { return silu(i[0]); }, [&](auto& i) { return plain_silu(i[0]); }, x);
  expect_same_gradients(
      "gelu", [](auto& i) { return gelu(i[0]); }, [&](auto& i) { return erf_gelu(i[0]); }, x);
  expect_same_gradients(
      "gelu_approx", [](auto& i) { return gelu_approx(i[0]); },
      [&](auto& i) { return tanh_gelu(i[0]); }, x);
  expect_same_gradients(
      "swiglu", [](auto& i) { return swiglu(i[0], i[1]); },
      [&](auto& i) { return plain_silu(i[0]) * i[1]; }, both);
  expect_same_gradients(
      "geglu", [](auto& i) { return geglu(i[0], i[1]); },
      [&](auto& i) { return erf_gelu(i[0]) * i[1]; }, both);
  expect_same_gradients(
      "geglu_approx", [](auto& i) { return geglu_approx(i[0], i[1]); },
      [&](auto& i) { return tanh_gelu(i[0]) * i[1]; }, both);
  expect_finite_differences("swiglu", [](auto& i) { return swiglu(i[0], i[1]); }, both);
}

TEST(Gradients, Norms) {
  const Arrays in{random({2, 5, 41}, mx::float32, 3, 2), random({41}, mx::float32, 4),
                  random({41}, mx::float32, 5)};
  const auto rms = [](const Arrays& i) {
    return i[0] * mx::rsqrt(mx::mean(mx::square(i[0]), -1, true) + mx::array(1e-3f)) * i[1];
  };
  const auto layer = [](const Arrays& i) {
    const auto d = i[0] - mx::mean(i[0], -1, true);
    return d * mx::rsqrt(mx::mean(mx::square(d), -1, true) + mx::array(1e-3f)) * i[1] + i[2];
  };
  expect_same_gradients("rms_norm", [](auto& i) { return rms_norm(i[0], i[1], 1e-3f); }, rms,
                        {in[0], in[1]});
  expect_same_gradients(
      "layer_norm", [](auto& i) { return layer_norm(i[0], i[1], i[2], 1e-3f); }, layer, in);
  expect_finite_differences("rms_norm", [](auto& i) { return rms_norm(i[0], std::nullopt, 1e-3f); },
                            {in[0]});
  expect_finite_differences(
      "layer_norm", [](auto& i) { return layer_norm(i[0], i[1], i[2], 1e-3f); }, in);
}

TEST(Gradients, Rope) {
  const auto inv_freq = mx::exp(mx::negative(mx::arange(6.0f)));
  for (const bool traditional : {false, true})
    for (const float scale : {1.0f, 1.3f}) {
      const auto f = [&](const Arrays& i) {
        return rope(i[0], 12, traditional, inv_freq, scale, 3);
      };
      // The rotation is linear, so differences are exact but for rounding.
      expect_finite_differences("rope", f, {random({2, 3, 4, 16}, mx::float32, 6)}, 1e-3);
    }
}

TEST(Gradients, MatrixProducts) {
  const Arrays in{random({2, 9, 33}, mx::float32, 7), random({21, 33}, mx::float32, 8),
                  random({21}, mx::float32, 9)};
  expect_same_gradients(
      "linear", [](auto& i) { return linear(i[0], i[1], i[2]); },
      [](auto& i) { return mx::matmul(i[0], mx::transpose(i[1])) + i[2]; }, in);
  expect_same_gradients(
      "matmul", [](auto& i) { return kernels::matmul(i[0], i[1]); },
      [](auto& i) { return mx::matmul(i[0], i[1]); },
      {random({3, 2, 8, 19}, mx::float32, 10), random({2, 19, 12}, mx::float32, 11)});
  const auto w =
      kernels::quantize(random({48, 64}, mx::float32, 12), quant_type(QuantMode::affine, 32, 4));
  expect_same_gradients(
      "quantized_matmul", [&](auto& i) { return kernels::quantized_matmul(i[0], w); },
      [&](auto& i) { return mx::matmul(i[0], mx::transpose(kernels::dequantize(w, mx::float32))); },
      {random({7, 64}, mx::float32, 13)});
}

TEST(Gradients, CrossEntropy) {
  const auto targets = mx::array({5, 0, 20001, 7}, {2, 2}, mx::int32);
  const Arrays in{random({2, 2, 20002}, mx::float32, 14, 3)};  // longer than one piece
  const auto plain = [&](const Arrays& i) {
    // In double precision: a sum of 20002 floats is further off than the kernel.
    const auto x = mx::astype(i[0], mx::float64);
    const auto lp =
        mx::take_along_axis(x - mx::logsumexp(x, -1, true), mx::expand_dims(targets, -1), -1);
    return mx::astype(mx::negative(mx::squeeze(lp, -1)), mx::float32);
  };
  const auto f = [&](const Arrays& i) { return cross_entropy(i[0], targets); };
  expect_close(f(in), plain(in), 1e-6);
  expect_same_gradients("cross_entropy", f, plain, in, 1e-6);
  const Arrays few{random({2, 2, 11}, mx::float32, 15)};
  expect_finite_differences(
      "cross_entropy",
      [](const Arrays& i) {
        return cross_entropy(i[0], mx::array({1, 0, 10, 3}, {2, 2}, mx::int32));
      },
      few);
  const auto out_of_range = cross_entropy(few[0], mx::array({1, 0, 11, 3}, {2, 2}, mx::int32));
  EXPECT_THROW(mx::array(out_of_range).eval(), std::exception);
  EXPECT_NE(test::error_of([&] { cross_entropy(few[0], mx::array({1, 2})); }).find("[2, 2]"),
            std::string::npos);
}

TEST(Gradients, Attention) {
  const Arrays qkv{random({2, 6, 150, 24}, mx::float32, 16),
                   random({2, 2, 150, 24}, mx::float32, 17),
                   random({2, 2, 150, 20}, mx::float32, 18)};
  const auto expect = [&](const std::string& what, const AttentionOptions& o, const Arrays& in) {
    expect_same_gradients(
        what, [&](auto& i) { return attention(i[0], i[1], i[2], o); },
        [&](auto& i) { return plain_attention(i[0], i[1], i[2], o); }, in, 5e-5);
  };
  expect("causal", {.scale = 0.2f}, qkv);
  expect("window", {.scale = 0.2f, .window = 17}, qkv);
  expect("all", {.scale = 0.2f, .causal = false}, qkv);
  expect("softcap", {.scale = 0.4f, .softcap = 1.5f}, qkv);
  expect("sinks", {.scale = 0.2f, .sinks = random({6}, mx::float32, 19)}, qkv);
  const auto seen = mx::greater(random({2, 1, 150, 150}, mx::float32, 20), mx::array(-1.0f));
  expect("bool mask", {.scale = 0.2f, .mask = seen}, qkv);
  expect("additive mask", {.scale = 0.2f, .mask = random({150, 150}, mx::float32, 21)}, qkv);
  const Arrays later{mx::slice(qkv[0], {0, 0, 140, 0}, {2, 6, 150, 24}), qkv[1], qkv[2]};
  expect("more keys than queries", {.scale = 0.2f}, later);
  expect_finite_differences(
      "attention", [](auto& i) { return attention(i[0], i[1], i[2], {.scale = 0.3f}); },
      {random({1, 2, 9, 8}, mx::float32, 22), random({1, 1, 9, 8}, mx::float32, 23),
       random({1, 1, 9, 8}, mx::float32, 24)});
}

}  // namespace
}  // namespace mlxcpp::kernels::testing

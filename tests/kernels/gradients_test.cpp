// Backward passes: against plain MLX operations, and by finite differences.
#include <mlx/primitives.h>

#include "kernel_testing.h"
#include "kernels/activations.h"
#include "kernels/attention.h"
#include "kernels/conv.h"
#include "kernels/cross_entropy.h"
#include "kernels/linear.h"
#include "kernels/norm.h"
#include "kernels/pool.h"
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
      "tanh", [](auto& i) { return kernels::tanh(i[0]); }, [](auto& i) { return mx::tanh(i[0]); },
      x);
  expect_same_gradients(
      "sigmoid", [](auto& i) { return kernels::sigmoid(i[0]); },
      [](auto& i) { return mx::sigmoid(i[0]); }, x);
  const Arrays with_zeros{mx::maximum(x[0], mx::array(-0.5f)) * mx::round(x[0])};
  expect_same_gradients(
      "relu", [](auto& i) { return relu(i[0]); },
      [](auto& i) { return mx::maximum(i[0], mx::array(0.0f)); }, with_zeros);
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

TEST(Gradients, ActivationsOfAnyLayout) {
  const Arrays x{random({5, 4, 30}, mx::float32, 1)};
  const auto turned = [](const mx::array& a) { return mx::transpose(a, {2, 0, 1}); };
  expect_same_gradients(
      "tanh of a view", [&](auto& i) { return kernels::tanh(turned(i[0])); },
      [&](auto& i) { return mx::tanh(turned(i[0])); }, x);
}

TEST(Gradients, SecondDerivatives) {
  const auto second = [](const F& f, const mx::array& x) {
    const auto first = [&](const mx::array& v) {
      return mx::sum(mx::grad([&](const mx::array& u) { return mx::sum(f({u})); })(v) *
                     random(v.shape(), mx::float32, 3));
    };
    return mx::grad(first)(x);
  };
  const auto x = random({2, 6, 5, 3}, mx::float32, 1);
  const auto weight = random({4, 3, 2, 3}, mx::float32, 2);
  const auto expect = [&](const char* what, const F& kernel, const F& plain) {
    expect_close(second(kernel, x), second(plain, x), 1e-4, what);
  };
  expect(
      "tanh", [](auto& i) { return kernels::tanh(i[0]); }, [](auto& i) { return mx::tanh(i[0]); });
  expect(
      "sigmoid", [](auto& i) { return kernels::sigmoid(i[0]); },
      [](auto& i) { return mx::sigmoid(i[0]); });
  expect(
      "silu", [](auto& i) { return silu(i[0]); }, [](auto& i) { return i[0] * mx::sigmoid(i[0]); });
  expect(
      "relu", [](auto& i) { return mx::square(relu(i[0])); },
      [](auto& i) { return mx::square(mx::maximum(i[0], mx::array(0.0f))); });
  expect(
      "conv2d", [&](auto& i) { return mx::square(kernels::conv2d(i[0], weight)); },
      [&](auto& i) { return mx::square(mx::conv2d(i[0], weight)); });
  expect(
      "mean_pool2d", [](auto& i) { return mx::square(mean_pool2d(i[0], {2, 1}, {2, 1})); },
      [](auto& i) { return mx::square(mx::mean(mx::reshape(i[0], {2, 3, 2, 5, 3}), 2)); });
  expect(
      "max_pool2d", [](auto& i) { return mx::square(max_pool2d(i[0], {2, 1}, {2, 1})); },
      [](auto& i) { return mx::square(mx::max(mx::reshape(i[0], {2, 3, 2, 5, 3}), 2)); });
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

TEST(Gradients, LowRankLinear) {
  for (const int rows : {3, 20}) {
    const Arrays in{random({2, rows, 33}, mx::float32, 7), random({21, 33}, mx::float32, 8),
                    random({33, 4}, mx::float32, 9), random({4, 21}, mx::float32, 10),
                    random({21}, mx::float32, 11)};
    const auto kernel = [](const Arrays& i) {
      return low_rank_linear(i[0], i[1], i.size() > 4 ? std::optional(i[4]) : std::nullopt, i[2],
                             i[3], 1.5f);
    };
    const auto plain = [](const Arrays& i) {
      const auto low = mx::matmul(mx::matmul(i[0], i[2]), i[3]) * mx::array(1.5f);
      const auto y = mx::matmul(i[0], mx::transpose(i[1])) + low;
      return i.size() > 4 ? y + i[4] : y;
    };
    const Arrays without(in.begin(), in.end() - 1);
    expect_same_gradients("with a bias", kernel, plain, in);
    expect_same_gradients("without", kernel, plain, without);
    expect_finite_differences("low_rank_linear", kernel, without);
    // Twice differentiated, with respect to x.
    const auto second = [&](const F& f) {
      return mx::grad([&](const mx::array& v) {
        return mx::sum(mx::square(mx::grad([&](const mx::array& u) {
          return mx::sum(mx::square(f({u, in[1], in[2], in[3]})));
        })(v)));
      })(in[0]);
    };
    expect_close(second(kernel), second(plain), 1e-4);
  }
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

// Without the logits in memory, as with them.
TEST(Gradients, LastCrossEntropy) {
  const auto targets = mx::array({5, 0, 20001, 7}, mx::int32);
  for (const mx::Dtype dtype : kFloatDtypes) {
    const auto weight = random({20002, 24}, dtype, 15);
    const auto logits = [&](const Arrays& i) {
      return mx::matmul(i[0], mx::transpose(mx::astype(weight, mx::float32)));
    };
    const auto kernel = [&](const Arrays& i) {
      const AnyOrderScope scope;
      const auto loss = last_cross_entropy(linear(i[0], weight), targets);
      EXPECT_STREQ(loss.primitive().name(), "mlxcpp::LastCrossEntropy");
      return loss;
    };
    const auto plain = [&](const Arrays& i) { return cross_entropy(logits(i), targets); };
    const Arrays in{random({4, 24}, mx::float32, 16)};
    expect_close(kernel(in), plain(in), 1e-5);
    expect_same_gradients("last_cross_entropy", kernel, plain, in);
    expect_finite_differences("last_cross_entropy", kernel, in);
  }
  // More rows than are computed at once: each as it is among few.
  const auto x = random({300, 8}, mx::float32, 17), weight = random({70000, 8}, mx::float32, 18);
  const auto gradient = [&](int begin, int end) {
    return mx::grad([&](const mx::array& some) {
      const AnyOrderScope scope;
      return mx::sum(last_cross_entropy(linear(some, weight),
                                        mx::arange(begin, end, mx::int32) * mx::array(7)));
    })(mx::slice(x, {begin, 0}, {end, 8}));
  };
  const auto all = gradient(0, 300);
  for (const int begin : {0, 160, 280})
    expect_close(gradient(begin, begin + 20), mx::slice(all, {begin, 0}, {begin + 20, 8}), 1e-6);
}

TEST(Gradients, LastCrossEntropyLeavesTheRestToTheOther) {
  const auto targets = mx::array({2, 0}, mx::int32);
  const Arrays in{random({2, 6}, mx::float32, 1), random({3, 6}, mx::float32, 2)};
  const auto plain = [&](const Arrays& i) {
    return cross_entropy(mx::matmul(i[0], mx::transpose(i[1])), targets);
  };
  // A weight that is trained, a bias, no gradients in the making.
  const AnyOrderScope scope;
  expect_same_gradients(
      "trained", [&](auto& i) { return last_cross_entropy(linear(i[0], i[1]), targets); }, plain,
      in);
  const auto bias = mx::zeros({3});
  EXPECT_STREQ(last_cross_entropy(linear(in[0], in[1], bias), targets).primitive().name(),
               "mlxcpp::CrossEntropy");
  EXPECT_THROW(last_cross_entropy(linear(in[0], in[1]), mx::array({1}, mx::int32)), Error);
  const auto out_of_range = last_cross_entropy(linear(in[0], in[1]), mx::array({3, 0}, mx::int32));
  EXPECT_THROW(mx::array(out_of_range).eval(), std::exception);
  // Its gradient has none: an error, not a wrong number.
  const auto loss = [&](const mx::array& x) {
    return mx::sum(last_cross_entropy(linear(x, in[1]), targets));
  };
  EXPECT_THROW(
      mx::grad([&](const mx::array& x) { return mx::sum(mx::square(mx::grad(loss)(x))); })(in[0]),
      Error);
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

struct ConvCase {
  mx::Shape x, weight;
  Conv2dOptions options = {};
};

TEST(Gradients, Conv2d) {
  for (const auto& [x, weight, o] :
       {ConvCase{{3, 9, 8, 1}, {6, 5, 5, 1}, {.padding = {2, 2}}},
        ConvCase{{2, 7, 6, 6}, {16, 5, 5, 6}},
        ConvCase{{40, 5, 7, 3}, {37, 3, 2, 3}, {.padding = {1, 1}}},
        ConvCase{{1, 4, 4, 2}, {1, 1, 1, 2}},
        ConvCase{{2, 11, 10, 20}, {32, 3, 3, 20}, {.stride = {2, 3}, .padding = {1, 0}}},
        ConvCase{{2, 9, 12, 4}, {5, 3, 2, 4}, {.stride = {1, 2}, .dilation = {2, 3}}},
        ConvCase{{2, 8, 8, 3}, {4, 3, 3, 3}, {.stride = {2, 2}, .padding_end = std::array{1, 1}}},
        ConvCase{{1, 60, 70, 2}, {3, 3, 3, 2}, {.padding = {1, 1}}},  // several bands
        ConvCase{{2, 5, 5, 2}, {3, 2, 2, 2}, {.padding = {2, 2}}},    // beyond what we do
        ConvCase{{2, 5, 6, 4}, {6, 3, 3, 2}, {.padding = {1, 1}, .groups = 2}}}) {
    const std::string what = fmt::format("[{}] by [{}], stride {}", fmt::join(x, ","),
                                         fmt::join(weight, ","), fmt::join(o.stride, ","));
    const Arrays in{random(x, mx::float32, 1), random(weight, mx::float32, 2),
                    random({weight[0]}, mx::float32, 3)};
    const F kernel = [&](auto& i) { return kernels::conv2d(i[0], i[1], o, {.bias = i[2]}); };
    const F plain = [&](auto& i) {
      const auto end = o.padding_end.value_or(o.padding);
      return mx::conv_general(i[0], i[1], {o.stride[0], o.stride[1]}, {o.padding[0], o.padding[1]},
                              {end[0], end[1]}, {o.dilation[0], o.dilation[1]}, {1, 1}, o.groups) +
             i[2];
    };
    expect_same_gradients(what, kernel, plain, in);
    expect_finite_differences(what, kernel, in);
  }
}

TEST(Gradients, Conv2dIsTheSameForAnyThreads) {
  const Arrays in{random({37, 12, 12, 5}, mx::float32, 1), random({19, 3, 3, 5}, mx::float32, 2)};
  const F f = [](auto& i) { return kernels::conv2d(i[0], i[1], {.padding = {1, 1}}); };
  for_each_isa([&] {
    for (const size_t i : {0, 1}) expect_same_for_any_threads([&] { return gradients(f, in)[i]; });
  });
}

TEST(Gradients, Conv2dWithoutABiasOrAnInput) {
  const Arrays in{random({2, 6, 5, 3}, mx::float32, 1), random({4, 3, 3, 3}, mx::float32, 2)};
  expect_same_gradients(
      "no bias", [](auto& i) { return kernels::conv2d(i[0], i[1]); },
      [](auto& i) { return mx::conv2d(i[0], i[1]); }, in);
  expect_same_gradients(
      "weights alone", [&](auto& i) { return kernels::conv2d(in[0], i[0]); },
      [&](auto& i) { return mx::conv2d(in[0], i[0]); }, {in[1]});
}

// Windows of x as axis 0.
mx::array windows(const mx::array& x, std::array<int, 2> size, std::array<int, 2> stride) {
  std::vector<mx::array> shifted;
  const int h = (x.shape(1) - size[0]) / stride[0] + 1, w = (x.shape(2) - size[1]) / stride[1] + 1;
  for (int y = 0; y < size[0]; ++y)
    for (int c = 0; c < size[1]; ++c)
      shifted.push_back(mx::slice(
          x, {0, y, c, 0},
          {x.shape(0), y + (h - 1) * stride[0] + 1, c + (w - 1) * stride[1] + 1, x.shape(3)},
          {1, stride[0], stride[1], 1}));
  return mx::stack(shifted, 0);
}

TEST(Gradients, Pools) {
  using Pair = std::array<int, 2>;
  for (const auto& [size, stride] :
       {std::pair{Pair{2, 2}, Pair{2, 2}}, {{3, 2}, {1, 2}}, {{1, 3}, {2, 1}}, {{2, 2}, {3, 3}}})
    for (const int channels : {1, 5, 8, 21}) {
      // Rounded: several elements of a window are the largest.
      const auto x = mx::round(random({3, 6, 7, channels}, mx::float32, 4, 2));
      const auto what = [&](const char* name) {
        return fmt::format("{} {} at {}, {} channels", name, fmt::join(size, "x"),
                           fmt::join(stride, "x"), channels);
      };
      const auto largest = [&](const Arrays& i) { return max_pool2d(i[0], size, stride); };
      const auto mean = [&](const Arrays& i) { return mean_pool2d(i[0], size, stride); };
      const auto plain_largest = [&](const Arrays& i) {
        return mx::max(windows(i[0], size, stride), 0);
      };
      const auto plain_mean = [&](const Arrays& i) {
        return mx::mean(windows(i[0], size, stride), 0);
      };
      for_each_isa([&] {
        expect_close(largest(Arrays{x}), plain_largest(Arrays{x}), 0, what("max_pool2d"));
        expect_close(mean(Arrays{x}), plain_mean(Arrays{x}), 1e-6, what("mean_pool2d"));
        expect_same_for_any_threads([&] { return gradients(largest, {x})[0]; });
        expect_same_for_any_threads([&] { return largest(Arrays{x}); });
      });
      expect_same_gradients(what("max_pool2d"), largest, plain_largest, {x});
      expect_same_gradients(what("mean_pool2d"), mean, plain_mean, {x});
    }
}

TEST(Gradients, PoolsOfWhatIsNotANumber) {
  const auto nan = std::numeric_limits<float>::quiet_NaN();
  for (int at = 0; at < 4; ++at) {
    std::vector<float> v{1, 2, 3, 4};
    v[at] = nan;
    for_each_isa([&] {
      EXPECT_TRUE(
          std::isnan(max_pool2d(mx::array(v.data(), {1, 2, 2, 1}), {2, 2}, {2, 2}).item<float>()));
    });
  }
  const auto low = mx::full({1, 2, 2, 1}, -INFINITY);
  for_each_isa([&] { EXPECT_EQ(max_pool2d(low, {2, 2}, {2, 2}).item<float>(), -INFINITY); });
}

TEST(Gradients, PoolsThatDoNotFit) {
  const auto x = mx::zeros({1, 2, 2, 1});
  EXPECT_NE(test::error_of([&] {
              max_pool2d(x, {3, 1}, {1, 1});
            }).find("max_pool2d: a window of 3x1 at a stride of 1x1 does not fit [1, 2, 2, 1]"),
            std::string::npos);
  EXPECT_NE(test::error_of([&] { mean_pool2d(x, {1, 1}, {0, 1}); }).find("stride of 0x1"),
            std::string::npos);
  EXPECT_NE(test::error_of([&] {
              mean_pool2d(mx::zeros({2, 2}), {1, 1}, {1, 1});
            }).find("expected [N, H, W, C], found [2, 2]"),
            std::string::npos);
}

}  // namespace
}  // namespace mlxcpp::kernels::testing

// The examples of docs/python-to-cpp.md, which quotes them.
#include <gtest/gtest.h>

#include "docs/names.h"
#include "kernels/attention.h"

namespace mlxcpp::docs {
namespace {

// [arrays]
mx::array arrays() {
  mx::array a({1.0f, 2.0f, 3.0f, 4.0f}, {2, 2});       // mx.array([[1., 2.], [3., 4.]])
  mx::array b = mx::zeros({2, 2}, mx::float32);        // mx.zeros((2, 2))
  mx::array c = mx::astype(mx::arange(4), a.dtype());  // mx.arange(4).astype(a.dtype)
  c = mx::reshape(c, {2, -1});                         // c.reshape(2, -1)
  return mx::matmul(a, mx::transpose(c)) + b;          // a @ c.T + b
}
// [/arrays]

// [scalars]
mx::array half(const mx::array& x) {
  // Python's 0.5 * x keeps the dtype of x; an array(0.5f) would make bfloat16 into float32.
  return x * mx::array(0.5f, x.dtype());
}
// [/scalars]

// [indexing]
struct Parts {
  mx::array row, tail, every_second, last, picked, chosen;
};
Parts index(const mx::array& x, const mx::array& ids) {  // x [4, 6], ids [2]
  return {
      mx::squeeze(mx::slice(x, {1, 0}, {2, 6}), 0),       // x[1]
      mx::slice(x, {0, 2}, {4, 6}),                       // x[:, 2:]
      mx::slice(x, {0, 0}, {4, 6}, {1, 2}),               // x[:, ::2]
      mx::take(x, mx::array(5), 1),                       // x[:, -1]: take wants no negative index
      mx::take(x, ids, 0),                                // x[ids]
      mx::where(mx::greater(x, mx::array(0.0f)), x, -x),  // mx.where(x > 0, x, -x)
  };
}
// x[:, 2:4] = y
mx::array assign(const mx::array& x, const mx::array& y) {
  return mx::slice_update(x, y, mx::Shape{0, 2}, mx::Shape{4, 4});
}
// [/indexing]

// [values]
float value_of(const mx::array& x) {
  mx::array sum = mx::sum(x);                 // lazy, as in Python; const ones cannot be evaluated
  const float number = sum.item<float>();     // sum.item(): evaluates
  const mx::array plain = mx::contiguous(x);  // data() does not know of strides
  mx::array evaluated = mx::astype(plain, mx::float32);
  mx::eval(evaluated);
  const float* first = evaluated.data<float>();  // memoryview(x)
  return number - *first;
}
// [/values]

// [module]
// class MLP(nn.Module):
//     def __init__(self, dims, hidden):
//         super().__init__()
//         self.gate_proj = nn.Linear(dims, hidden, bias=False)
//         self.up_proj = nn.Linear(dims, hidden, bias=False)
//         self.down_proj = nn.Linear(hidden, dims, bias=False)
//     def __call__(self, x):
//         return self.down_proj(nn.silu(self.gate_proj(x)) * self.up_proj(x))
struct MLP final : nn::Layer {
  MLP(int dims, int hidden)
      : gate_proj(this, "gate_proj", dims, hidden),
        up_proj(this, "up_proj", dims, hidden),
        down_proj(this, "down_proj", hidden, dims) {}

  mx::array operator()(const mx::array& x) const override {
    return down_proj(nn::silu(gate_proj(x)) * up_proj(x));
  }

  nn::Child<nn::Linear> gate_proj, up_proj, down_proj;
};

// self.layers = [MLP(dims, hidden) for _ in range(n)]; self.scale = mx.ones((dims,))
struct Stack final : nn::Layer {
  Stack(int n, int dims, int hidden)
      : layers(this, "layers"), scale(this, "scale", mx::ones({dims})) {
    for (int i = 0; i < n; ++i) layers.emplace_back(dims, hidden);
  }

  mx::array operator()(const mx::array& x) const override {
    mx::array h = x;
    for (size_t i = 0; i < layers.size(); ++i) h = h + layers.call(i, h);
    return h * *scale;
  }

  nn::Children<MLP> layers;
  nn::Param scale;
};
// [/module]

// [training]
// loss_and_grad = nn.value_and_grad(model, loss_fn)
// loss, grads = loss_and_grad(x, y); optimizer.update(model, grads)
float train_step(Stack& model, optimizers::Optimizer& optimizer, const mx::array& x,
                 const mx::array& y) {
  const auto step = nn::value_and_grad(
      model, [&](const nn::Arrays& in) { return nn::mse_loss(model(in[0]), in[1]); });
  auto [loss, gradients] = step({x, y});
  optimizer.update(model, gradients);
  return loss.item<float>();
}
// [/training]

// [fast]
mx::array attend(const mx::array& q, const mx::array& k, const mx::array& v) {
  // mx.fast.scaled_dot_product_attention(q, k, v, scale=0.125, mask="causal")
  return kernels::attention(q, k, v, {.scale = 0.125f, .causal = true});
}
// [/fast]

TEST(PythonToCpp, ArraysAndIndexing) {
  EXPECT_TRUE(mx::array_equal(arrays(), mx::array({2.0f, 8.0f, 4.0f, 18.0f}, {2, 2})).item<bool>());
  EXPECT_EQ(half(mx::ones({1}, mx::bfloat16)).dtype(), mx::bfloat16);
  const mx::array x = mx::reshape(mx::astype(mx::arange(24), mx::float32), {4, 6});
  const Parts p = index(x, mx::array({2, 0}, {2}));
  EXPECT_EQ(mx::sum(p.row).item<float>(), 6 + 7 + 8 + 9 + 10 + 11);
  EXPECT_EQ(p.tail.shape(), (mx::Shape{4, 4}));
  EXPECT_EQ(p.every_second.shape(), (mx::Shape{4, 3}));
  EXPECT_EQ(mx::sum(p.last).item<float>(), 5 + 11 + 17 + 23);
  EXPECT_EQ(p.picked.shape(), (mx::Shape{2, 6}));
  EXPECT_TRUE(mx::array_equal(p.chosen, x).item<bool>());
  EXPECT_EQ(mx::sum(assign(x, mx::zeros({4, 2}))).item<float>(), 276 - 92);
  EXPECT_EQ(value_of(x), 276);
}

TEST(PythonToCpp, ModulesAndTraining) {
  Stack model(2, 4, 8);
  EXPECT_EQ(model.parameters().count("layers.1.down_proj.weight"), 1u);
  optimizers::Adam adam({.learning_rate = 1e-2});
  const mx::array x = mx::random::normal({8, 4}, mx::float32, mx::random::key(1));
  const float before = train_step(model, adam, x, -x);
  float after = before;
  for (int i = 0; i < 20; ++i) after = train_step(model, adam, x, -x);
  EXPECT_LT(after, before);
}

TEST(PythonToCpp, Fast) {
  const mx::array q = mx::random::normal({1, 2, 3, 64}, mx::float32, mx::random::key(2));
  EXPECT_EQ(attend(q, q, q).shape(), q.shape());
}

}  // namespace
}  // namespace mlxcpp::docs

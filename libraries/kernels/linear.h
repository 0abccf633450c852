#pragma once

#include <optional>

#include <mlx/mlx.h>

namespace mlxcpp::kernels {

namespace mx = mlx::core;

// x [..., K] times the transpose of weight [N, K], plus bias [N]: [..., N]. f32, bf16 or f16 each
// (the result has the widest of their types, as in MLX); sums in f32, also of halves, so that bf16
// keeps its range. A row's result does not depend on how many rows there are. Differentiable.
mx::array linear(const mx::array& x, const mx::array& weight,
                 const std::optional<mx::array>& bias = {});

// a [..., M, K] b [..., K, N] with batch axes broadcast, as mx::matmul, but sums in f32 and at the
// CPU's speed. Transposed operands are read in place. Differentiable.
mx::array matmul(const mx::array& a, const mx::array& b);

// While one lives, products of many rows that this thread builds by the two functions above are
// computed in the fastest way, in which a row has other bits than alone. nn::value_and_grad has
// one, and so have their gradients and the towers of pictures and sound; language models and
// embedders have none, so that a prompt in pieces gives the bits of the whole, and a text in a
// batch those that it has alone.
class AnyOrderScope {
 public:
  AnyOrderScope();
  ~AnyOrderScope();
  AnyOrderScope(const AnyOrderScope&) = delete;
  AnyOrderScope& operator=(const AnyOrderScope&) = delete;

  static bool active();

 private:
  bool before_;
};

// What y = linear(x, weight) was made of, where that was on the CPU in an AnyOrderScope, without a
// bias, and y has not been computed: for what can do without y. Otherwise none.
struct LinearParts {
  mx::array x, weight;
};
std::optional<LinearParts> linear_parts(const mx::array& y);

// linear(x, weight, bias) + scale (x a) b, the product of a layer with a low-rank adapter: x
// [..., K], weight [N, K], a [K, R], b [R, N]. On the CPU in f32 the two are summed in one product,
// and so is the gradient of x; sums as in an AnyOrderScope. Otherwise plain operations.
// Differentiable.
mx::array low_rank_linear(const mx::array& x, const mx::array& weight,
                          const std::optional<mx::array>& bias, const mx::array& a,
                          const mx::array& b, float scale);

}  // namespace mlxcpp::kernels

#pragma once

#include <utility>

#include "nn/module.h"

namespace mlxcpp::optimizers {

namespace mx = mlx::core;

// Gradients scaled down together so that their norm is at most max_norm, and the norm that they
// had (mlx.optimizers.clip_grad_norm). Error when max_norm is negative.
std::pair<nn::Weights, mx::array> clip_grad_norm(const nn::Weights& gradients, double max_norm);

// Sums gradients of several batches; what one large batch would have given.
class GradientAccumulator {
 public:
  void add(const nn::Weights& gradients);
  int count() const { return count_; }
  // The mean of what was added; then empty again.
  nn::Weights take();
  // What a checkpoint needs, and back.
  const nn::Weights& sum() const { return sum_; }
  void restore(nn::Weights sum, int count);

 private:
  nn::Weights sum_;
  int count_ = 0;
};

}  // namespace mlxcpp::optimizers

#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "optimizers/optimizer.h"

namespace mlxcpp::optimizers {

// Different optimizers for different parameters: each goes to the first whose filter picks it, or
// to the last optimizer, which has none.
class MultiOptimizer final : public Optimizer {
 public:
  using Filter = std::function<bool(const std::string& path, const mx::array& gradient)>;
  // Error unless there is one filter less than optimizers.
  MultiOptimizer(std::vector<std::unique_ptr<Optimizer>> optimizers, std::vector<Filter> filters);

  Weights apply(const Weights& gradients, const Weights& parameters) override;
  // Keys "states.0.step", "states.1.PATH.m", ...
  Weights state() const override;
  void set_state(const Weights& state) override;
  mx::array learning_rate() const override { return optimizers_.front()->learning_rate(); }

 private:
  std::vector<std::unique_ptr<Optimizer>> optimizers_;
  std::vector<Filter> filters_;
};

}  // namespace mlxcpp::optimizers

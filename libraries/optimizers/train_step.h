#pragma once

#include <functional>

#include "nn/value_and_grad.h"
#include "optimizers/optimizer.h"

namespace mlxcpp::optimizers {

// Loss, gradients and the optimizer's update as one call:
//   TrainStep step(model, optimizer, [&](const nn::Arrays& in) { return mse(model(in[0]), in[1]);
//   }); const auto loss = step({x, y}); mx::eval(loss, model.parameters(), optimizer.state())
// Everything is lazy. Compiled, the step is traced once for each shape of the inputs, and MLX joins
// element-wise operations; random numbers in the loss (dropout) would then be the same in every
// step, so such models are not to be compiled. Model and optimizer must outlive it. For one thread.
class TrainStep {
 public:
  using Loss = std::function<mx::array(const nn::Arrays& inputs)>;
  TrainStep(nn::Module& m, Optimizer& optimizer, Loss loss, bool compile = false);

  mx::array operator()(const nn::Arrays& inputs);

 private:
  nn::Arrays changed() const;  // what a step changes: parameters, then the optimizer's state
  size_t assign(const nn::Arrays& values);  // the same back; how many it took
  nn::Arrays trace(const nn::Arrays& all);
  mx::array plain(const nn::Arrays& inputs);

  nn::Module& m_;
  Optimizer& optimizer_;
  nn::LossAndGrads grads_;
  bool compile_;
  std::vector<std::string> parameters_, state_;  // names, in order
  std::function<nn::Arrays(const nn::Arrays&)> compiled_;
};

}  // namespace mlxcpp::optimizers

#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "nn/module.h"

namespace mlxcpp::nn {

// Differentiates a loss with respect to the trainable parameters of `m`:
//   auto step = value_and_grad(model, [&](const Arrays& in) { return mse(model(in[0]), in[1]); });
//   auto [loss, grads] = step({x, y});
// The loss is a scalar that the function computes from the module it captured. `grads` has the
// parameters' paths, as an optimizer and Module::update take them. While it runs, the parameters
// are the tracers of the transform; afterwards, and when the loss throws, they are what they were.
// The module must outlive the function, which reads anew at each call what is trainable.
using Arrays = std::vector<mx::array>;
using LossAndGrads = std::function<std::pair<mx::array, Weights>(const Arrays& inputs)>;
LossAndGrads value_and_grad(Module& m, std::function<mx::array(const Arrays& inputs)> loss);

// The same for a function with several outputs: the first is the loss, the rest is handed back.
using ValuesAndGrads = std::function<std::pair<Arrays, Weights>(const Arrays& inputs)>;
ValuesAndGrads value_and_grad(Module& m, std::function<Arrays(const Arrays& inputs)> loss);

}  // namespace mlxcpp::nn

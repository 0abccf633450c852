#include "optimizers/train_step.h"

namespace mlxcpp::optimizers {

TrainStep::TrainStep(nn::Module& m, Optimizer& optimizer, Loss loss, bool compile)
    : m_(m),
      optimizer_(optimizer),
      grads_(nn::value_and_grad(m, std::move(loss))),
      compile_(compile) {}

mx::array TrainStep::plain(const nn::Arrays& inputs) {
  auto [loss, gradients] = grads_(inputs);
  optimizer_.update(m_, gradients);
  return loss;
}

nn::Arrays TrainStep::changed() const {
  nn::Arrays out;
  for (const auto& [path, value] : m_.trainable_parameters()) out.push_back(value);
  for (const auto& [key, value] : optimizer_.state()) out.push_back(value);
  return out;
}

size_t TrainStep::assign(const nn::Arrays& values) {
  size_t at = 0;
  Weights parameters, state;
  for (const auto& path : parameters_) parameters.emplace(path, values[at++]);
  for (const auto& key : state_) state.emplace(key, values[at++]);
  m_.update(parameters);
  optimizer_.set_state(state);
  return at;
}

nn::Arrays TrainStep::trace(const nn::Arrays& all) {
  const size_t taken = assign(all);
  const auto loss = plain({all.begin() + static_cast<std::ptrdiff_t>(taken), all.end()});
  nn::Arrays out = changed();
  out.push_back(loss);
  return out;
}

mx::array TrainStep::operator()(const nn::Arrays& inputs) {
  if (!compile_) return plain(inputs);
  if (!compiled_) {  // the first step makes the optimizer's state, which the others are traced with
    const auto loss = plain(inputs);
    for (const auto& [path, value] : m_.trainable_parameters()) parameters_.push_back(path);
    for (const auto& [key, value] : optimizer_.state()) state_.push_back(key);
    compiled_ = mx::compile(std::function<nn::Arrays(const nn::Arrays&)>(
        [this](const nn::Arrays& all) { return trace(all); }));
    return loss;
  }
  const nn::Arrays before = changed();
  nn::Arrays all = before;
  all.insert(all.end(), inputs.begin(), inputs.end());
  try {
    const nn::Arrays after = compiled_(all);
    assign(after);
    return after.back();
  } catch (...) {  // a trace that was broken off has left its tracers
    assign(before);
    throw;
  }
}

}  // namespace mlxcpp::optimizers

#include "optimizers/optimizer.h"

namespace mlxcpp::optimizers {
namespace {

mx::array zero_steps() { return mx::array(static_cast<uint64_t>(0)); }

}  // namespace

mx::array scalar(double v, const mx::array& a) {
  return mx::array(static_cast<float>(v), a.dtype());
}

void Optimizer::update(nn::Module& m, const Weights& gradients) {
  m.update(apply(gradients, m.parameters([&](const std::string& path, const nn::Param&) {
    return gradients.contains(path);
  })));
}

StepOptimizer::StepOptimizer(Rate rate)
    : rate_(std::move(rate)), step_(zero_steps()), rate_now_(rate_.schedule(step_)) {}

Weights StepOptimizer::apply(const Weights& gradients, const Weights& parameters) {
  rate_now_ = rate_.schedule(step_);
  step_ = step_ + mx::array(static_cast<uint64_t>(1));
  Weights out;
  for (const auto& [path, gradient] : gradients) {
    const auto parameter = parameters.find(path);
    if (parameter == parameters.end())
      throw Error("optimizer: there is a gradient, but no parameter '{}'", path);
    if (parameter->second.shape() != gradient.shape())
      throw Error("optimizer: the gradient of '{}' has shape [{}], the parameter [{}]", path,
                  fmt::join(gradient.shape(), ", "), fmt::join(parameter->second.shape(), ", "));
    auto slots = slots_.find(path);
    if (slots == slots_.end()) slots = slots_.emplace(path, initial_slots(parameter->second)).first;
    out.emplace(path, apply_one(gradient, parameter->second, slots->second));
  }
  return out;
}

Weights StepOptimizer::state() const {
  Weights out{{"step", step_}, {"learning_rate", rate_now_}};
  for (const auto& [path, slots] : slots_)
    for (const auto& [name, value] : slots) out.emplace(path + "." + name, value);
  return out;
}

void StepOptimizer::set_state(const Weights& state) {
  const auto need = [&](const char* key) {
    const auto it = state.find(key);
    if (it == state.end()) throw Error("optimizer state: '{}' is missing", key);
    if (it->second.ndim() != 0)
      throw Error("optimizer state: '{}' must be a number, found shape [{}]", key,
                  fmt::join(it->second.shape(), ", "));
    return it->second;
  };
  const auto step = mx::astype(need("step"), mx::uint64);
  const auto rate = mx::astype(need("learning_rate"), mx::float32);
  std::map<std::string, Slots> slots;
  for (const auto& [key, value] : state) {
    if (key == "step" || key == "learning_rate") continue;
    const size_t dot = key.rfind('.');
    if (dot == std::string::npos) throw Error("optimizer state: unknown key '{}'", key);
    slots[key.substr(0, dot)].emplace(key.substr(dot + 1), value);
  }
  step_ = step;
  rate_now_ = rate;
  // A rate that was set by hand in the run that was saved holds here, too.
  if (rate_.fixed) rate_.schedule = [rate](const mx::array&) { return rate; };
  slots_ = std::move(slots);
}

void StepOptimizer::set_learning_rate(double rate) {
  rate_ = Rate(rate);
  rate_now_ = rate_.schedule(step_);
}

}  // namespace mlxcpp::optimizers

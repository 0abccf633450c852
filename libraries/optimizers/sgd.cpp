#include "optimizers/optimizer.h"

namespace mlxcpp::optimizers {

SGD::SGD(SGDOptions o) : StepOptimizer(o.learning_rate), o_(std::move(o)) {
  if (o_.nesterov && (o_.momentum <= 0 || o_.dampening != 0))
    throw Error("SGD: Nesterov momentum needs a momentum and no dampening, found {} and {}",
                o_.momentum, o_.dampening);
}

StepOptimizer::Slots SGD::initial_slots(const mx::array& p) const {
  return o_.momentum > 0 ? Slots{{"v", mx::zeros_like(p)}} : Slots{};
}

mx::array SGD::apply_one(const mx::array& gradient, const mx::array& p, Slots& slots) const {
  const auto k = [&](double v) { return scalar(v, gradient); };
  const auto g = o_.weight_decay != 0 ? gradient + scalar(o_.weight_decay, p) * p : gradient;
  const auto rate = rate_as(g.dtype());
  if (o_.momentum <= 0) return p - rate * g;
  auto& v = slots.at("v");
  const auto kept = scalar(o_.momentum, v) * v;
  v = o_.dampening > 0 ? kept + k(1 - o_.dampening) * g : kept + g;
  return p - rate * (o_.nesterov ? g + k(o_.momentum) * v : v);
}

}  // namespace mlxcpp::optimizers

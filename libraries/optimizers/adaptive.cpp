// Optimizers that scale each number's step by its own history.
#include "optimizers/optimizer.h"

namespace mlxcpp::optimizers {
namespace {

void check_beta(const char* optimizer, int i, double beta) {
  if (!(beta >= 0 && beta < 1))
    throw Error("{}: beta{} must be in [0, 1), found {}", optimizer, i, beta);
}
void check_not_negative(const char* optimizer, const char* what, double v) {
  if (!(v >= 0)) throw Error("{}: {} must not be negative, found {}", optimizer, what, v);
}
void check_positive(const char* optimizer, const char* what, double v) {
  if (!(v > 0)) throw Error("{}: {} must be positive, found {}", optimizer, what, v);
}

// beta * average + (1 - beta) * x
mx::array moved(double beta, const mx::array& average, const mx::array& x) {
  return scalar(beta, average) * average + scalar(1 - beta, x) * x;
}

}  // namespace

// ---- RMSprop

RMSprop::RMSprop(RMSpropOptions o) : StepOptimizer(o.learning_rate), o_(std::move(o)) {
  check_not_negative("RMSprop", "alpha", o_.alpha);
  check_positive("RMSprop", "eps", o_.eps);
}

StepOptimizer::Slots RMSprop::initial_slots(const mx::array& p) const {
  return {{"v", mx::zeros_like(p)}};
}

mx::array RMSprop::apply_one(const mx::array& g, const mx::array& p, Slots& slots) const {
  auto& v = slots.at("v");
  v = moved(o_.alpha, v, mx::square(g));
  return p - rate_as(g.dtype()) * g / (mx::sqrt(v) + scalar(o_.eps, v));
}

// ---- Adagrad

Adagrad::Adagrad(AdagradOptions o) : StepOptimizer(o.learning_rate), o_(std::move(o)) {
  check_positive("Adagrad", "eps", o_.eps);
}

StepOptimizer::Slots Adagrad::initial_slots(const mx::array& p) const {
  return {{"v", mx::zeros_like(p)}};
}

mx::array Adagrad::apply_one(const mx::array& g, const mx::array& p, Slots& slots) const {
  auto& v = slots.at("v");
  v = v + mx::square(g);
  return p - rate_as(g.dtype()) * g / (mx::sqrt(v) + scalar(o_.eps, v));
}

// ---- AdaDelta

AdaDelta::AdaDelta(AdaDeltaOptions o) : StepOptimizer(o.learning_rate), o_(std::move(o)) {
  check_not_negative("AdaDelta", "rho", o_.rho);
  check_positive("AdaDelta", "eps", o_.eps);
}

StepOptimizer::Slots AdaDelta::initial_slots(const mx::array& p) const {
  return {{"v", mx::zeros_like(p)}, {"u", mx::zeros_like(p)}};
}

mx::array AdaDelta::apply_one(const mx::array& g, const mx::array& p, Slots& slots) const {
  auto &v = slots.at("v"), &u = slots.at("u");
  v = moved(o_.rho, v, mx::square(g));
  const auto d = mx::sqrt(u + scalar(o_.eps, u)) / mx::sqrt(v + scalar(o_.eps, v)) * g;
  u = moved(o_.rho, u, mx::square(d));
  return p - rate_as(g.dtype()) * d;
}

// ---- Adam, AdamW, Adamax

Adam::Adam(AdamOptions o) : StepOptimizer(o.learning_rate), o_(std::move(o)) {
  check_beta("Adam", 1, o_.beta1);
  check_beta("Adam", 2, o_.beta2);
  check_not_negative("Adam", "eps", o_.eps);
}

StepOptimizer::Slots Adam::initial_slots(const mx::array& p) const {
  return {{"m", mx::zeros_like(p)}, {"v", mx::zeros_like(p)}};
}

mx::array Adam::apply_one(const mx::array& g, const mx::array& p, Slots& slots) const {
  auto &m = slots.at("m"), &v = slots.at("v");
  m = moved(o_.beta1, m, g);
  v = moved(o_.beta2, v, mx::square(g));
  const auto rate = rate_as(g.dtype());
  if (!o_.bias_correction) return p - rate * m / (mx::sqrt(v) + scalar(o_.eps, v));
  const auto rest = [&](double beta) {  // 1 - beta^step
    return mx::array(1.0f) - mx::power(mx::array(static_cast<float>(beta)), step());
  };
  const auto c1 = mx::astype(rate / rest(o_.beta1), g.dtype());
  const auto c2 = mx::astype(mx::rsqrt(rest(o_.beta2)), g.dtype());
  return p - c1 * m / (mx::sqrt(v) * c2 + scalar(o_.eps, v));
}

AdamW::AdamW(const AdamWOptions& o)
    : Adam({o.learning_rate, o.beta1, o.beta2, o.eps, o.bias_correction}),
      weight_decay_(o.weight_decay) {}

mx::array AdamW::apply_one(const mx::array& g, const mx::array& p, Slots& slots) const {
  const auto rate = rate_as(g.dtype());
  return Adam::apply_one(g, p * (scalar(1, rate) - rate * scalar(weight_decay_, rate)), slots);
}

Adamax::Adamax(const AdamaxOptions& o) : Adam({o.learning_rate, o.beta1, o.beta2, o.eps}) {}

mx::array Adamax::apply_one(const mx::array& g, const mx::array& p, Slots& slots) const {
  auto &m = slots.at("m"), &v = slots.at("v");
  m = moved(o_.beta1, m, g);
  v = mx::maximum(scalar(o_.beta2, v) * v, mx::abs(g));
  return p - rate_as(g.dtype()) * m / (v + scalar(o_.eps, v));
}

// ---- Lion

Lion::Lion(LionOptions o) : StepOptimizer(o.learning_rate), o_(std::move(o)) {
  check_beta("Lion", 1, o_.beta1);
  check_beta("Lion", 2, o_.beta2);
}

StepOptimizer::Slots Lion::initial_slots(const mx::array& p) const {
  return {{"m", mx::zeros_like(p)}};
}

mx::array Lion::apply_one(const mx::array& g, const mx::array& p, Slots& slots) const {
  auto& m = slots.at("m");
  const auto direction = mx::sign(moved(o_.beta1, m, g));
  m = moved(o_.beta2, m, g);
  const auto rate = rate_as(g.dtype());
  if (o_.weight_decay <= 0) return p - rate * direction;
  return (scalar(1, rate) - rate * scalar(o_.weight_decay, rate)) * p - rate * direction;
}

}  // namespace mlxcpp::optimizers

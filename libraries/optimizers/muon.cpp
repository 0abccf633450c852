#include <cmath>

#include "kernels/linear.h"
#include "optimizers/optimizer.h"

namespace mlxcpp::optimizers {
namespace {

// Something near U V^T of x = U S V^T, for a matrix x.
mx::array orthogonalised(mx::array x, int steps) {
  const bool tall = x.shape(0) > x.shape(1);
  if (tall) x = mx::transpose(x);
  x = x / (mx::linalg::norm(x, std::nullopt, true) + scalar(1e-7, x));
  for (int i = 0; i < steps; ++i) {
    const auto a = kernels::matmul(x, mx::transpose(x));
    const auto b = scalar(-4.7750, a) * a + scalar(2.0315, a) * kernels::matmul(a, a);
    x = scalar(3.4445, x) * x + kernels::matmul(b, x);
  }
  return tall ? mx::transpose(x) : x;
}

}  // namespace

Muon::Muon(MuonOptions o) : StepOptimizer(o.learning_rate), o_(std::move(o)) {}

StepOptimizer::Slots Muon::initial_slots(const mx::array& p) const {
  return {{"v", mx::zeros_like(p)}};
}

mx::array Muon::apply_one(const mx::array& gradient, const mx::array& p, Slots& slots) const {
  const auto g = o_.weight_decay != 0 ? gradient + scalar(o_.weight_decay, p) * p : gradient;
  const auto momentum = scalar(o_.momentum, g), rest = scalar(1 - o_.momentum, g);
  auto& v = slots.at("v");
  v = momentum * v + rest * g;
  auto update = o_.nesterov ? g * rest + v * momentum : v;
  auto rate = rate_as(g.dtype());
  if (update.ndim() >= 2) {
    const auto shape = update.shape();  // more axes count as one: filters
    update = orthogonalised(mx::reshape(update, {shape[0], -1}), o_.ns_steps);
    update = mx::reshape(update, shape);
    const double ratio = static_cast<double>(shape[shape.size() - 2]) / shape.back();
    rate = rate * scalar(std::sqrt(std::max(1.0, ratio)), rate);
  }
  return p - rate * update;
}

}  // namespace mlxcpp::optimizers

#include "optimizers/optimizer.h"

namespace mlxcpp::optimizers {
namespace {

mx::array root_mean_square(const mx::array& x) { return mx::sqrt(mx::mean(mx::square(x))); }

}  // namespace

Adafactor::Adafactor(AdafactorOptions o)
    : StepOptimizer(o.learning_rate.value_or(Rate(0.0))), o_(std::move(o)) {
  if (!o_.learning_rate && !o_.relative_step)
    throw Error("Adafactor: without relative_step a learning rate is needed");
}

StepOptimizer::Slots Adafactor::initial_slots(const mx::array& p) const {
  Slots slots;
  if (p.ndim() >= 2) {
    auto row = p.shape(), column = p.shape();
    row.pop_back();
    column.erase(column.end() - 2);
    slots.emplace("exp_avg_sq_row", mx::zeros(row, p.dtype()));
    slots.emplace("exp_avg_sq_col", mx::zeros(column, p.dtype()));
  } else {
    slots.emplace("exp_avg_sq", mx::zeros_like(p));
  }
  if (o_.beta1) slots.emplace("exp_avg", mx::zeros_like(p));
  return slots;
}

mx::array Adafactor::rate_for(const mx::array& parameter_rms) const {
  auto rate = rate_as(mx::float32);
  if (o_.relative_step) {
    const auto most = o_.warmup_init ? mx::array(1e-6f) * step() : mx::array(1e-2f);
    rate = mx::minimum(most, mx::rsqrt(step()));
  }
  rate = mx::astype(rate, parameter_rms.dtype());
  return o_.scale_parameter ? mx::maximum(scalar(o_.eps2, parameter_rms), parameter_rms) * rate
                            : rate;
}

mx::array Adafactor::apply_one(const mx::array& g, const mx::array& p, Slots& slots) const {
  const auto rms = root_mean_square(p);
  const auto rate = rate_for(rms);
  const auto beta2 =
      scalar(1, rms) -
      mx::astype(mx::power(step(), mx::array(static_cast<float>(o_.decay_rate))), rms.dtype());
  const auto moved = [&](const char* slot, const mx::array& x) {
    auto& average = slots.at(slot);
    average = beta2 * average + (scalar(1, beta2) - beta2) * x;
    return average;
  };
  const auto squares = mx::square(g) + scalar(o_.eps1, g);
  auto update = g;
  if (g.ndim() >= 2) {
    const auto row = moved("exp_avg_sq_row", mx::mean(squares, -1));
    const auto column = moved("exp_avg_sq_col", mx::mean(squares, -2));
    const auto row_factor = mx::rsqrt(row / mx::mean(row, -1, true));
    update = mx::expand_dims(row_factor, -1) * mx::expand_dims(mx::rsqrt(column), -2) * g;
  } else {
    update = mx::rsqrt(moved("exp_avg_sq", squares)) * g;
  }
  update = update / mx::maximum(scalar(1, update),
                                root_mean_square(update) / scalar(o_.clip_threshold, update));
  update = rate * update;
  if (o_.beta1) {
    auto& average = slots.at("exp_avg");
    average = scalar(*o_.beta1, average) * average + scalar(1 - *o_.beta1, update) * update;
    update = average;
  }
  if (o_.weight_decay == 0) return p - update;
  return p + p * (scalar(-o_.weight_decay, rate) * rate) - update;
}

}  // namespace mlxcpp::optimizers

#include "optimizers/schedules.h"

#include <cmath>

#include "core/error.h"

namespace mlxcpp::optimizers {
namespace {

// Python's floats are weak: beside an array of integers they are float32.
mx::array number(double v) { return mx::array(static_cast<float>(v)); }
mx::array count(int v) { return mx::array(static_cast<uint64_t>(v)); }

void at_least_one(const char* what, int found) {
  if (found < 1) throw Error("{} must be at least 1, found {}", what, found);
}

}  // namespace

Schedule constant(double value) {
  return [value](const mx::array&) { return number(value); };
}

Schedule exponential_decay(double init, double decay_rate) {
  return [=](const mx::array& step) { return number(init) * mx::power(number(decay_rate), step); };
}

Schedule step_decay(double init, double decay_rate, int step_size) {
  at_least_one("step_decay: step_size", step_size);
  return [=](const mx::array& step) {
    return number(init) * mx::power(number(decay_rate), mx::floor_divide(step, count(step_size)));
  };
}

Schedule cosine_decay(double init, int decay_steps, double end) {
  at_least_one("cosine_decay: decay_steps", decay_steps);
  return [=](const mx::array& step) {
    const auto s = mx::minimum(step, count(decay_steps));
    const auto decay = number(0.5) * (number(1.0) + mx::cos(number(M_PI / decay_steps) * s));
    return number(end) + decay * number(init - end);
  };
}

Schedule linear_schedule(double init, double end, int steps) {
  at_least_one("linear_schedule: steps", steps);
  return [=](const mx::array& step) {
    return mx::minimum(step, count(steps)) * number((end - init) / steps) + number(init);
  };
}

Schedule join_schedules(std::vector<Schedule> schedules, std::vector<int> boundaries) {
  if (schedules.empty()) throw Error("join_schedules: at least one schedule is needed");
  if (schedules.size() != boundaries.size() + 1)
    throw Error("join_schedules: {} schedules need {} boundaries, found {}", schedules.size(),
                schedules.size() - 1, boundaries.size());
  return [schedules = std::move(schedules),
          boundaries = std::move(boundaries)](const mx::array& step) {
    auto out = schedules[0](step);
    for (size_t i = 0; i < boundaries.size(); ++i) {
      const auto boundary = count(boundaries[i]);
      // Before the boundary the difference wraps around, and nobody looks at what follows from it.
      out = mx::where(mx::less(step, boundary), out, schedules[i + 1](step - boundary));
    }
    return out;
  };
}

}  // namespace mlxcpp::optimizers

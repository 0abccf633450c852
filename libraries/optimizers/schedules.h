// Learning rates that follow the step, as mlx.optimizers.schedulers has them
// (mlx/optimizers/schedulers.py). A schedule takes the number of steps done (uint64 scalar, 0 at
// first) and gives a float32 scalar.
#pragma once

#include <functional>
#include <vector>

#include <mlx/mlx.h>

namespace mlxcpp::optimizers {

namespace mx = mlx::core;

using Schedule = std::function<mx::array(const mx::array& step)>;

Schedule constant(double value);
// init * decay_rate^step
Schedule exponential_decay(double init, double decay_rate);
// init * decay_rate^(step / step_size), the quotient rounded down. Error unless step_size >= 1.
Schedule step_decay(double init, double decay_rate, int step_size);
// Half a cosine from init to end over decay_steps (at least 1), then end.
Schedule cosine_decay(double init, int decay_steps, double end = 0.0);
// A straight line from init to end over `steps` (at least 1), then end. From 0 or little: a
// warm-up.
Schedule linear_schedule(double init, double end, int steps);
// schedules[i] holds from boundaries[i-1] to boundaries[i], and counts its steps from its start.
Schedule join_schedules(std::vector<Schedule> schedules, std::vector<int> boundaries);

}  // namespace mlxcpp::optimizers

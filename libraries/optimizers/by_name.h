#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "optimizers/optimizer.h"

namespace mlxcpp::optimizers {

// "adam", "adamw", "sgd", ...: the optimizers with the defaults of mlx.optimizers.
std::vector<std::string> optimizer_names();
// Error that lists the names for an unknown one.
std::unique_ptr<Optimizer> make_optimizer(std::string_view name, Rate learning_rate);

// A schedule from text, "NAME" or "NAME:ARGUMENT,...": the functions of schedules.h and their
// arguments. Without arguments "linear_schedule" and "cosine_decay" go from `rate` to 0 over
// `steps`, and "constant" stays at `rate`. `warmup`: so many steps before it from 0 to its first
// rate. Error says what was expected.
Schedule make_schedule(std::string_view text, double rate, int steps, int warmup);

}  // namespace mlxcpp::optimizers

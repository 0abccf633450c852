#include "support/optimizer_options.h"

#include "optimizers/by_name.h"
#include "support/options.h"

namespace mlxcpp::tools {

void OptimizerOptions::add(CLI::App& app) {
  app.add_option("--optimizer", name)
      ->check(CLI::IsMember(optimizers::optimizer_names()))
      ->capture_default_str();
  app.add_option("--learning-rate", learning_rate)->capture_default_str();
  app.add_option("--lr-schedule", schedule,
                 "NAME or NAME:ARGUMENT,...: linear_schedule, cosine_decay, step_decay, "
                 "exponential_decay; of steps of the optimizer");
  app.add_option("--warmup", warmup, "steps in which the rate rises from 0")
      ->check(non_negative_number())
      ->capture_default_str();
}

std::unique_ptr<optimizers::Optimizer> OptimizerOptions::make(int steps) const {
  if (schedule.empty() && warmup == 0) return optimizers::make_optimizer(name, learning_rate);
  return optimizers::make_optimizer(
      name, optimizers::make_schedule(schedule.empty() ? "constant" : schedule, learning_rate,
                                      steps, warmup));
}

}  // namespace mlxcpp::tools

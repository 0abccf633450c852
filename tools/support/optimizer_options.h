#pragma once

#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include "optimizers/optimizer.h"

namespace mlxcpp::tools {

// --optimizer, --learning-rate, --lr-schedule, --warmup. Set the defaults before add().
struct OptimizerOptions {
  std::string name;
  double learning_rate;
  std::string schedule;
  int warmup = 0;

  void add(CLI::App& app);
  // `steps`: how many the run has, over which a schedule without arguments goes.
  std::unique_ptr<optimizers::Optimizer> make(int steps) const;
};

}  // namespace mlxcpp::tools

#pragma once

#include <functional>
#include <string>
#include <vector>

#include "golden/fixture.h"

namespace mlxcpp::golden {

struct Options {
  kernels::Precision precision = kernels::Precision::exact;
};

struct Result {
  enum class Status { passed, failed, skipped } status = Status::failed;
  std::string reason;  // why it failed (the first layer or output that does) or was skipped
  std::vector<TensorResult> tensors;  // everything compared
  int steps_compared = 0;             // greedy steps
  double max_abs() const;
  double max_rel() const;
};

// Runs one fixture on the calling thread. Never throws: an exception is a failure with its text.
Result run(const Fixture& fixture, const Options& options);

}  // namespace mlxcpp::golden

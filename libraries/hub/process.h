#pragma once

#include <functional>
#include <map>
#include <stop_token>
#include <string>
#include <vector>

namespace mlxcpp::hub {

struct ProcessResult {
  int exit_code = 0;   // 128 + the signal's number when one ended it
  std::string output;  // the end of stdout and stderr, as they came
};

// Runs a program found on PATH, without a shell, with this process's environment and `variables`
// over it; stdin is empty. `tick` is called every now and then meanwhile. A request to stop, or an
// exception of `tick`, kills it. It dies with this process. Throws when it cannot be started.
ProcessResult run_process(const std::vector<std::string>& arguments,
                          const std::map<std::string, std::string>& variables,
                          const std::stop_token& stop, const std::function<void()>& tick = {});

}  // namespace mlxcpp::hub

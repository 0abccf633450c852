#pragma once

#include <sys/wait.h>

#include <cstdlib>
#include <string>

#include <fmt/format.h>

#include "tests/support/temp_folder.h"

namespace mlxcpp::test {

// What became of a program: its exit status (-1: a signal ended it), and what it wrote.
struct Outcome {
  int status;
  std::string out, error;
};

// Runs a command as its users do, in a shell, with its streams in files of `scratch`. `after`
// stands behind the redirections ("2>&1": both in `out`).
inline Outcome shell(const std::string& command, const TempFolder& scratch,
                     const std::string& after = "") {
  const auto out = scratch / "out", error = scratch / "error";
  const int status = std::system(
      fmt::format("{} >'{}' 2>'{}' {}", command, out.string(), error.string(), after).c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_all(out), read_all(error)};
}

}  // namespace mlxcpp::test

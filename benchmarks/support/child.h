#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "core/json.h"

namespace mlxcpp::bench {

// A program that measures on request: it prints one JSON line when it is ready, then reads requests
// (one line each) and answers each with one JSON line. So two of them can take turns in one run.
// Not thread-safe.
class Child {
 public:
  explicit Child(const std::vector<std::string>& command);
  ~Child();  // closes its input and waits for it
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  const Json& ready() const { return ready_; }
  double seconds_to_ready() const { return seconds_to_ready_; }  // from the start of the process
  // Throws an Error when the child ends or answers {"error": ...}.
  Json ask(const std::string& request);

 private:
  Json read_line();

  std::string name_;
  pid_t pid_ = -1;
  int to_ = -1, from_ = -1;
  std::string buffer_;
  Json ready_;
  double seconds_to_ready_ = 0;
};

// Runs a command to its end; 127 if it cannot be started.
int exit_status(const std::vector<std::string>& command);

}  // namespace mlxcpp::bench

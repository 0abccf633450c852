#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "core/json.h"

namespace mlxcpp::bench {

// A program that measures on request: it prints one JSON line when it is ready, then reads requests
// (one line each) and answers each with one JSON line. So two of them can take turns in one run.
// Each line must come within a limit; a program that is late is ended. Not thread-safe.
class Child {
 public:
  using Seconds = std::chrono::duration<double>;

  // Waits until it is ready. `name` stands in messages.
  Child(std::string name, const std::vector<std::string>& command, Seconds limit);
  ~Child();  // closes its input, waits a little, ends it when that was not enough
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  Seconds to_ready() const { return to_ready_; }  // from the start of the process
  Seconds age() const;                            // since the start of the process
  // Throws an Error when the child ends, is late, or answers {"error": ...}.
  Json ask(const std::string& request);

 private:
  Json read_line(const std::string& what);
  void start(const std::vector<std::string>& command);
  void end();

  std::string name_;
  Seconds limit_;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  pid_t pid_ = -1;
  int to_ = -1, from_ = -1;
  std::string buffer_;
  Seconds to_ready_{};
};

// Runs a command to its end; 127 if it cannot be started.
int exit_status(const std::vector<std::string>& command);

}  // namespace mlxcpp::bench

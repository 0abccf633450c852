#pragma once

#include <functional>
#include <stop_token>
#include <string_view>

#include <CLI/CLI.hpp>

// What every tool's main() does alike.
namespace mlxcpp::tools {

// Parses the command line and runs `body`; holds the only catch-all of a program. Exit status: what
// body returns; 1 with a line on stderr for an exception; 2 for faults of usage. A closed standard
// output is an error, not a signal.
int run_program(CLI::App& app, int argc, char** argv, const std::function<int()>& body);

// Text to standard output, at once. Throws an Error when it cannot be written.
void print(std::string_view text);

// Stops on Ctrl-C: while one of these lives, SIGINT asks token() to stop instead of ending the
// program. One at a time.
class InterruptScope {
 public:
  InterruptScope();
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

  std::stop_token token() const { return source_.get_token(); }
  bool interrupted() const { return source_.stop_requested(); }

 private:
  std::stop_source source_;
};

}  // namespace mlxcpp::tools

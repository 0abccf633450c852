#pragma once

#include <functional>
#include <stop_token>
#include <string_view>

#include <CLI/CLI.hpp>

#include "core/error.h"

// What every tool's main() does alike.
namespace mlxcpp::tools {

// Parses the command line and runs `body`; holds the only catch-all of a program. Exit status: what
// body returns; 1 with a line on stderr for an exception; 2 for faults of usage. A closed standard
// output is an error, not a signal; and no file that is opened later takes a closed stream's place.
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

// The result of work(stop), with a token that Ctrl-C asks to stop; an Error when it did.
template <class Work>
auto interruptible(const Work& work) {
  const InterruptScope interrupt;
  auto result = work(interrupt.token());
  if (interrupt.interrupted()) throw Error("interrupted");
  return result;
}

}  // namespace mlxcpp::tools

#pragma once

#include <functional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace mlxcpp::tools {

// Runs a sub-command, once its options are parsed; gives the exit status.
using Command = std::function<int()>;

// The sub-commands of a program, or of one of its commands: exactly one must be given.
class Commands {
 public:
  explicit Commands(CLI::App& app) : app_(&app) { app.require_subcommand(1); }

  // `make` adds the command's options to what it is given.
  void add(const char* name, const char* description, Command (*make)(CLI::App&));
  std::vector<std::string> names() const;
  // The one that was given.
  int run() const;

 private:
  struct Row {
    CLI::App* app;
    Command run;
  };
  CLI::App* app_;
  std::vector<Row> rows_;
};

}  // namespace mlxcpp::tools

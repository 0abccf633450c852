#include "support/commands.h"

namespace mlxcpp::tools {

void Commands::add(const char* name, const char* description, Command (*make)(CLI::App&)) {
  CLI::App* command = app_->add_subcommand(name, description);
  rows_.push_back({command, make(*command)});
}

std::vector<std::string> Commands::names() const {
  std::vector<std::string> out;
  for (const Row& row : rows_) out.push_back(row.app->get_name());
  return out;
}

int Commands::run() const {
  for (const Row& row : rows_)
    if (row.app->parsed()) return row.run();
  return 0;
}

}  // namespace mlxcpp::tools

#pragma once

#include <memory>

#include <CLI/CLI.hpp>

#include "adapters/adapter_set.h"
#include "llm-tool/media_options.h"
#include "lm_common/model_container.h"
#include "support/commands.h"
#include "support/options.h"

// The sub-commands of llm-tool: each adds itself to the program and returns what runs it.
namespace mlxcpp::tools {

Command add_eval(CLI::App& command);
Command add_chat(CLI::App& command);
Command add_list(CLI::App& command);
Command add_fetch(CLI::App& command);
Command add_trace(CLI::App& command);
Command add_compare(CLI::App& command);

// What eval and chat have in common: which model, how it is run, how it answers.
struct CommonOptions {
  ModelOptions model;
  GenerateOptions generate;
  MediaInputOptions media;
  MemoryOptions memory;
  ComputeOptions compute;
  ToolOptions tools;
  std::vector<std::string> adapters;  // [NAME=]FOLDER

  void add(CLI::App& app);
  ModelConfiguration configuration()
      const;  // of the model that was named, with the options' tokens and tool format
  // Applies limits, threads and device; loads the model, saying so on stderr unless quiet.
  std::shared_ptr<ModelContainer> load() const;
  // Those of --adapter, the first of them on the model. Without a name, one is called as its
  // folder.
  std::shared_ptr<adapters::AdapterSet> load_adapters(ModelContainer& container) const;
};

}  // namespace mlxcpp::tools

// llm-tool list llms: the models that have a short name, and the model types there are.
#include "llm-tool/commands.h"

#include "llm/presets.h"
#include "llm/registry.h"
#include "support/program.h"

namespace mlxcpp::tools {

Command add_list(CLI::App& app) {
  CLI::App* llms = app.add_subcommand("llms", "models by their hub id, then the model types");
  app.require_subcommand(1);
  return [llms] {
    if (!llms->parsed()) return 0;
    std::string out;
    for (const auto& preset : llm::presets().all()) out += preset.id + "\n";
    out += "\nmodel types:";
    for (const auto& type : llm::model_types().names()) out += " " + type;
    print(out + "\n");
    return 0;
  };
}

}  // namespace mlxcpp::tools

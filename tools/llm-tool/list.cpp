// llm-tool list llms: the models that have a short name, family by family, and the model types
// there are.
#include "llm-tool/commands.h"

#include <map>
#include <string_view>

#include "llm/presets.h"
#include "llm/registry.h"
#include "support/program.h"

namespace mlxcpp::tools {

Command add_list(CLI::App& app) {
  CLI::App* llms = app.add_subcommand("llms", "models by family, then the model types");
  app.require_subcommand(1);
  return [llms] {
    if (!llms->parsed()) return 0;
    std::string out;
    std::map<std::string_view, std::string> families;
    for (const auto& preset : llm::presets().all())
      families[llm::model_type_of(preset)] += "  " + preset.id + "\n";
    for (const auto& [type, ids] : families) out += fmt::format("{}\n{}", type, ids);
    out += "\nmodel types:";
    for (const auto& type : llm::model_types().names()) out += " " + type;
    print(out + "\n");
    return 0;
  };
}

}  // namespace mlxcpp::tools

// llm-tool list llms|vlms: the models that have a short name, and the model types there are.
#include "llm-tool/commands.h"

#include "llm/presets.h"
#include "llm/registry.h"
#include "support/program.h"
#include "vlm/presets.h"
#include "vlm/registry.h"

namespace mlxcpp::tools {
namespace {

int list(const ModelPresets& presets, const std::vector<std::string>& types) {
  std::string out;
  for (const auto& preset : presets.all()) out += preset.id + "\n";
  out += "\nmodel types:";
  for (const auto& type : types) out += " " + type;
  print(out + "\n");
  return 0;
}

}  // namespace

Command add_list(CLI::App& app) {
  CLI::App* llms = app.add_subcommand("llms", "models by their hub id, then the model types");
  CLI::App* vlms = app.add_subcommand("vlms", "the same, of those that take pictures");
  app.require_subcommand(1);
  return [llms, vlms] {
    if (vlms->parsed()) return list(vlm::presets(), vlm::media_model_types());
    return llms->parsed() ? list(llm::presets(), llm::model_types().names()) : 0;
  };
}

}  // namespace mlxcpp::tools

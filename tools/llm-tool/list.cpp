// llm-tool list llms|vlms: the models that have a short name, family by family, and the model types
// there are.
#include "llm-tool/commands.h"

#include <map>
#include <string_view>

#include "llm/presets.h"
#include "llm/registry.h"
#include "support/program.h"
#include "vlm/presets.h"
#include "vlm/registry.h"

namespace mlxcpp::tools {
namespace {

int list(std::string presets, const std::vector<std::string>& types) {
  std::string out = std::move(presets) + "\nmodel types:";
  for (const auto& type : types) out += " " + type;
  print(out + "\n");
  return 0;
}

int list_llms() {
  std::map<std::string_view, std::string> families;
  for (const auto& preset : llm::presets().all())
    families[llm::model_type_of(preset)] += "  " + preset.id + "\n";
  std::string out;
  for (const auto& [type, ids] : families) out += fmt::format("{}\n{}", type, ids);
  return list(std::move(out), llm::model_types().names());
}

int list_vlms() {
  std::string out;
  for (const auto& preset : vlm::presets().all()) out += preset.id + "\n";
  return list(std::move(out), vlm::media_model_types());
}

}  // namespace

Command add_list(CLI::App& app) {
  CLI::App* llms = app.add_subcommand("llms", "models by family, then the model types");
  CLI::App* vlms = app.add_subcommand("vlms", "models that take pictures, then the model types");
  app.require_subcommand(1);
  return [llms, vlms] {
    if (vlms->parsed()) return list_vlms();
    return llms->parsed() ? list_llms() : 0;
  };
}

}  // namespace mlxcpp::tools

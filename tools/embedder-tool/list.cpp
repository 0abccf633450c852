// embedder-tool list: models that have a short name, and the model types there are.
#include "embedder-tool/commands.h"
#include "support/program.h"

namespace mlxcpp::tools {

Command add_list(CLI::App&) {
  return [] {
    std::string out = fmt::format("embedders:\n  {} (the default)\n", embedders::kDefaultModel);
    for (const auto& preset : embedders::presets().all()) out += "  " + preset.id + "\n";
    out += "\nrerankers:\n";
    for (const auto& preset : embedders::reranker_presets().all()) out += "  " + preset.id + "\n";
    out += "\nmodel types:";
    for (const auto& type : embedders::encoder_types()) out += fmt::format(" {}", type.name);
    out += "\npooling:";
    for (const auto name : embedders::pooling_names()) out += fmt::format(" {}", name);
    print(out + "\n");
    return 0;
  };
}

}  // namespace mlxcpp::tools

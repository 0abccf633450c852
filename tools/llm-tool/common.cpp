#include "llm-tool/commands.h"

#include "llm/presets.h"
#include "llm/registry.h"

namespace mlxcpp::tools {

void CommonOptions::add(CLI::App& app) {
  model.add(app);
  generate.add(app);
  memory.add(app);
  compute.add(app);
}

ModelConfiguration CommonOptions::configuration() const {
  ModelConfiguration c = llm::presets().configuration(model.model);
  c.extra_eos_tokens.insert(c.extra_eos_tokens.end(), generate.extra_eos_tokens.begin(),
                            generate.extra_eos_tokens.end());
  return c;
}

std::shared_ptr<ModelContainer> CommonOptions::load() const {
  generate.parameters.validate();
  memory.apply();
  compute.apply();
  if (!generate.quiet) fmt::print(stderr, "Loading {} ...\n", model.model);
  return load_model_container(configuration(), llm::model_types(),
                              model.download_options(generate.quiet),
                              {.precision = compute.kernel_precision()});
}

}  // namespace mlxcpp::tools

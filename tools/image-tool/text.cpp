// image-tool sd text: pictures from a prompt.
#include "image-tool/sd_options.h"

namespace mlxcpp::tools {

Command add_text_to_image(CLI::App& app) {
  const auto o = std::make_shared<SdOptions>();
  o->add(app, true);
  return [o] {
    const auto parameters = o->parameters();
    o->check(parameters);
    auto model = o->open();
    model.validate(parameters);
    return run_generation(
        *o, parameters, model, [&] { return model.generate(parameters); },
        fmt::format(", Size: {}x{}", parameters.latent_width * model.scale(),
                    parameters.latent_height * model.scale()));
  };
}

}  // namespace mlxcpp::tools

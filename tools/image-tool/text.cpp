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
    const PictureSize size{.height = parameters.latent_height * model.scale(),
                           .width = parameters.latent_width * model.scale()};
    return run_generation(*o, parameters, model, size, [&] { return model.generate(parameters); });
  };
}

}  // namespace mlxcpp::tools

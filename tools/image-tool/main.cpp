// image-tool: pictures on the command line.
#include "image-tool/sd_options.h"
#include "support/program.h"

int main(int argc, char** argv) {
  using namespace mlxcpp::tools;
  CLI::App app("Makes pictures.", "image-tool");
  app.set_version_flag("--version", MLXCPP_VERSION);
  Commands commands(app);
  commands.add("sd", "Stable Diffusion", [](CLI::App& sd) -> Command {
    Commands ways(sd);
    ways.add("text", "pictures from a prompt", add_text_to_image);
    ways.add("image", "pictures from a picture and a prompt", add_image_to_image);
    return [ways] { return ways.run(); };
  });
  return run_program(app, argc, argv, [&] { return commands.run(); });
}

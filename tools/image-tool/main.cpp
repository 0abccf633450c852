// image-tool: pictures on the command line.
#include "image-tool/sd_options.h"
#include "support/program.h"

int main(int argc, char** argv) {
  using namespace mlxcpp::tools;
  CLI::App app("Makes pictures.", "image-tool");
  app.set_version_flag("--version", MLXCPP_VERSION);
  app.require_subcommand(1);
  CLI::App* sd = app.add_subcommand("sd", "Stable Diffusion");
  sd->require_subcommand(1);
  CLI::App* text = sd->add_subcommand("text", "pictures from a prompt");
  CLI::App* image = sd->add_subcommand("image", "pictures from a picture and a prompt");
  const Command run_text = add_text_to_image(*text), run_image = add_image_to_image(*image);
  return run_program(app, argc, argv, [&] { return image->parsed() ? run_image() : run_text(); });
}

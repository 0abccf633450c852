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
  const Command run_text = add_text_to_image(*text);
  return run_program(app, argc, argv, run_text);
}

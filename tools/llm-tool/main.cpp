// llm-tool: language models on the command line. Without a sub-command: eval.
#include "llm-tool/training_commands.h"
#include "support/program.h"

namespace {

// `llm-tool --prompt ...` means `llm-tool eval --prompt ...`; a word that is no command is a fault.
std::vector<char*> with_default_command(int argc, char** argv) {
  static char eval[] = "eval";
  std::vector<char*> out(argv, argv + argc);
  const std::string first = argc > 1 ? argv[1] : "";
  const bool help = first == "-h" || first == "--help" || first == "--version";
  if (!help && (argc < 2 || first.starts_with('-'))) out.insert(out.begin() + 1, eval);
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace mlxcpp::tools;
  CLI::App app("Runs language models.", "llm-tool");
  app.set_version_flag("--version", MLXCPP_VERSION);
  app.footer("Without a command: eval. `llm-tool COMMAND --help` lists its options.");

  Commands commands(app);
  commands.add("eval", "answer one prompt (the default)", add_eval);
  commands.add("chat", "talk with a model", add_chat);
  commands.add("list", "models and model types there are", add_list);
  commands.add("fetch", "download models without running them", add_fetch);
  commands.add("lora", "train adapters, test, fuse and use them", add_lora);
  commands.add("convert", "write a model as a folder of safetensors", add_convert);
  commands.add("trace", "write every intermediate of a forward pass to a file", add_trace);
  commands.add("compare", "find where two traces part", add_compare);

  auto arguments = with_default_command(argc, argv);
  return run_program(app, static_cast<int>(arguments.size()), arguments.data(),
                     [&] { return commands.run(); });
}

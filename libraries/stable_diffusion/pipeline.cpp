#include "stable_diffusion/pipeline.h"

#include <algorithm>
#include <cmath>

#include <fmt/ranges.h>

#include "core/log.h"
#include "lm_common/memory.h"
#include "nn/quantized.h"

namespace mlxcpp::sd {
namespace {

// A side, and in all: 8192 x 8192 pixels.
constexpr int kMostImages = 1024, kMostLatents = 1 << 14, kMostArea = 1 << 20;

// Linear layers whose rows the type fits; small ones are left as they are.
void quantize_linear(nn::Module& module, int group_size, int bits) {
  const auto type = kernels::quant_type(kernels::QuantMode::affine, group_size, bits);
  nn::quantize_weights(
      module,
      [&](const std::string&, const nn::Module& layer) -> std::optional<kernels::QuantType> {
        const auto* linear = dynamic_cast<const nn::Linear*>(&layer);
        if (!linear || linear->input_dims() % group_size != 0) return std::nullopt;
        return type;
      });
}

void evaluate(const nn::Module& module) {
  std::vector<mx::array> all;
  for (const auto& [path, value] : module.parameters()) all.push_back(value);
  mx::eval(all);
}

mx::array repeated(const mx::array& x, int n) { return mx::repeat(x, n, 0); }

// a before b, n times each.
std::optional<mx::array> joined(const std::optional<mx::array>& a,
                                const std::optional<mx::array>& b, int n) {
  if (!b) return std::nullopt;
  return a ? mx::concatenate({repeated(*a, n), repeated(*b, n)}, 0) : repeated(*b, n);
}

}  // namespace

void check(const EvaluateParameters& p) {
  if (p.steps < 1) throw Error("steps: at least 1 is needed, found {}", p.steps);
  if (p.image_count < 1 || p.image_count > kMostImages)
    throw Error("image count: expected 1 to {}, found {}", kMostImages, p.image_count);
  for (const int edge : {p.latent_width, p.latent_height})
    if (edge < 1 || edge > kMostLatents)
      throw Error("latent size: expected 1 to {} a side, found {} x {}", kMostLatents,
                  p.latent_width, p.latent_height);
  if (static_cast<int64_t>(p.latent_width) * p.latent_height > kMostArea)
    throw Error("latent size: {} x {} are more than {} in all", p.latent_width, p.latent_height,
                kMostArea);
  if (!(std::isfinite(p.cfg) && p.cfg >= 0))
    throw Error("cfg: expected a number from 0, found {}", p.cfg);
}

DenoiseIterator::DenoiseIterator(std::shared_ptr<const UNet> unet, std::unique_ptr<Sampler> sampler,
                                 Conditioning conditioning, bool guided, float cfg,
                                 mx::array latents, mx::random::KeySequence keys)
    : unet_(std::move(unet)),
      sampler_(std::move(sampler)),
      conditioning_(std::move(conditioning)),
      guided_(guided),
      cfg_(cfg),
      latents_(std::move(latents)),
      keys_(std::move(keys)) {}

std::optional<DenoiseStep> DenoiseIterator::next(const std::stop_token& stop) {
  if (stop.stop_requested()) stopped_ = true;
  if (stopped_ || index_ == count()) {
    // Nothing more will be asked for: memory goes back now, not when this object goes.
    latents_.reset();
    conditioning_.reset();
    unet_.reset();
    return std::nullopt;
  }
  const int i = index_++, batch = latents_->shape(0);
  auto x = sampler_->model_input(*latents_, i);
  if (guided_) x = mx::concatenate({x, x}, 0);
  auto output =
      (*unet_)(x, mx::array(static_cast<float>(sampler_->timesteps()[i])), *conditioning_, cfg_);
  if (guided_) {
    const auto halves = mx::split(output, 2, 0);
    output = halves[0] + mx::array(cfg_) * (halves[1] - halves[0]);
  }
  std::optional<mx::array> noise;
  if (sampler_->wants_noise(i))
    noise = mx::random::normal({batch, latents_->shape(1), latents_->shape(2), latents_->shape(3)},
                               mx::float32, 0.0f, 1.0f, keys_.next());
  const auto step = sampler_->step(i, *latents_, output, noise);
  mx::eval(step.latents, step.predicted);
  check_memory_limit();
  latents_ = step.latents;
  return DenoiseStep{i, count(), step.latents, step.predicted};
}

StableDiffusion::StableDiffusion(ModelSource source, LoadOptions options)
    : source_(std::move(source)), options_(options) {
  source_.check_weights();
  for (int i = 0; i < source_.text_encoders(); ++i)
    tokenizers_.emplace_back(source_.tokenizer_folder(i));
}

const std::vector<std::shared_ptr<const ClipTextModel>>& StableDiffusion::text_encoders() {
  if (text_encoders_.empty())
    for (int i = 0; i < source_.text_encoders(); ++i) {
      auto model = source_.load_text_encoder(i, options_.dtype);
      if (options_.quantize) quantize_linear(*model, 64, 4);
      evaluate(*model);
      text_encoders_.push_back(std::move(model));
    }
  return text_encoders_;
}

std::shared_ptr<const UNet> StableDiffusion::unet() {
  if (!unet_) {
    auto model = source_.load_unet(options_.dtype);
    if (options_.quantize) quantize_linear(*model, 32, 8);
    evaluate(*model);
    unet_ = std::move(model);
  }
  return unet_;
}

std::shared_ptr<const Autoencoder> StableDiffusion::autoencoder() {
  if (!autoencoder_) {
    auto model = source_.load_autoencoder(mx::float32);
    evaluate(*model);
    autoencoder_ = std::move(model);
  }
  return autoencoder_;
}

void StableDiffusion::ensure_loaded() {
  text_encoders();
  unet();
  autoencoder();
}

void StableDiffusion::release_text_encoders() { text_encoders_.clear(); }
void StableDiffusion::release_unet() { unet_.reset(); }
void StableDiffusion::release_autoencoder() { autoencoder_.reset(); }

int StableDiffusion::windows(const std::string& prompt) const {
  size_t most = 1;
  for (size_t i = 0; i < tokenizers_.size(); ++i)
    most =
        std::max(most, tokenizers_[i]
                           .encode_windows(prompt, source_.text_config(i).max_position_embeddings)
                           .size());
  return static_cast<int>(most);
}

Conditioning StableDiffusion::condition(const std::optional<std::string>& prompt, int windows) {
  std::vector<const ClipTextModel*> encoders;
  for (const auto& encoder : text_encoders()) encoders.push_back(encoder.get());
  std::vector<std::vector<std::vector<int>>> ids(windows);  // of each window, of each encoder
  for (size_t i = 0; i < tokenizers_.size(); ++i) {
    const int length = source_.text_config(i).max_position_embeddings;
    if (windows == 1) {
      ids[0].push_back(tokenizers_[i].encode(prompt.value_or(""), length));
      continue;
    }
    auto parts = tokenizers_[i].encode_windows(prompt.value_or(""), length);
    parts.resize(windows, tokenizers_[i].encode("", length));
    for (int w = 0; w < windows; ++w) ids[w].push_back(std::move(parts[w]));
  }
  std::vector<Conditioning> parts;
  for (const auto& window : ids) parts.push_back(sd::condition(encoders, window));
  auto c = windows == 1 ? std::move(parts[0]) : joined_windows(parts);
  c.states = mx::astype(c.states, mx::float32);
  if (c.pooled) c.pooled = mx::astype(*c.pooled, mx::float32);
  if (!prompt && source_.zeros_for_no_negative()) {
    c.states = mx::zeros_like(c.states);
    if (c.pooled) c.pooled = mx::zeros_like(*c.pooled);
  }
  c.states.eval();
  if (c.pooled) c.pooled->eval();
  return c;
}

std::string StableDiffusion::sampler_name(const std::string& name) const {
  return name.empty() ? sampler_of_config(source_.scheduler(), source_.scheduler_where()) : name;
}

std::unique_ptr<Sampler> StableDiffusion::sampler(const std::string& name) const {
  return make_sampler(sampler_name(name), source_.scheduler(), source_.scheduler_where());
}

Shortened StableDiffusion::shortened(const std::string& sampler) const {
  return source_.is_lcm() && sampler_name(sampler) == "lcm" ? Shortened::schedule
                                                            : Shortened::steps;
}

std::unique_ptr<Sampler> StableDiffusion::prepared(const EvaluateParameters& p,
                                                   double strength) const {
  check(p);
  auto s = sampler(p.sampler);
  s->prepare(p.steps, strength, shortened(p.sampler));
  return s;
}

void StableDiffusion::validate(const EvaluateParameters& p, double strength) const {
  prepared(p, strength);
}

DenoiseIterator StableDiffusion::start(const EvaluateParameters& p,
                                       std::unique_ptr<Sampler> sampler,
                                       const std::optional<mx::array>& from) {
  if (p.sampler.empty() && source_.scheduler().value("_class_name", "") == "PNDMScheduler")
    log::info("{}: PNDMScheduler is run as Euler, with its betas", source_.scheduler_where());
  // The UNet of a model that takes guidance as an input runs once.
  const bool guided = p.cfg > 1 && !source_.unet_config().time_cond_proj_dim;
  // Both sides of the guidance are of one length.
  int count = 1;
  if (p.whole_prompt) {
    count = windows(p.prompt);
    if (guided) count = std::max(count, windows(p.negative_prompt.value_or("")));
  }
  Conditioning with = condition(p.prompt, count);
  std::optional<Conditioning> without;
  if (guided) without = condition(p.negative_prompt, count);
  if (options_.conserve_memory) {
    release_text_encoders();
    mx::clear_cache();
  }
  with.states =
      *joined(without ? std::optional(without->states) : std::nullopt, with.states, p.image_count);
  with.pooled = joined(without ? without->pooled : std::nullopt, with.pooled, p.image_count);

  const int channels = source_.autoencoder_config().latent_channels;
  const int height = from ? from->shape(1) : p.latent_height;
  const int width = from ? from->shape(2) : p.latent_width;
  if (source_.is_xl()) {
    const auto h = static_cast<float>(height * scale()), w = static_cast<float>(width * scale());
    const float sizes[] = {h, w, 0, 0, h, w};
    with.time_ids = mx::repeat(mx::array(sizes, {1, 6}, mx::float32), with.states.shape(0), 0);
  }
  mx::random::KeySequence keys(p.seed);
  const auto noise = mx::random::normal({p.image_count, height, width, channels}, mx::float32, 0.0f,
                                        1.0f, keys.next());
  auto latents = from ? sampler->add_noise(*from, noise) : sampler->initial_latents(noise);
  latents.eval();
  auto network = unet();
  if (options_.conserve_memory) release_unet();  // the iterator holds it
  return DenoiseIterator(std::move(network), std::move(sampler), std::move(with), guided, p.cfg,
                         std::move(latents), std::move(keys));
}

DenoiseIterator StableDiffusion::generate(const EvaluateParameters& p) {
  return start(p, prepared(p, 1), std::nullopt);
}

DenoiseIterator StableDiffusion::generate(const mx::array& image, double strength,
                                          const EvaluateParameters& p) {
  check(p);
  if (image.ndim() != 3 || image.shape(2) != source_.autoencoder_config().in_channels ||
      image.shape(0) % scale() != 0 || image.shape(1) % scale() != 0 || image.size() == 0)
    throw Error(
        "image to image: expected a picture [H, W, {}] with edges that are multiples of "
        "{}, found [{}]",
        source_.autoencoder_config().in_channels, scale(), fmt::join(image.shape(), ", "));
  auto s = prepared(p, strength);
  auto latents = autoencoder()->encode_scaled(mx::expand_dims(image, 0));
  latents.eval();
  if (options_.conserve_memory) {
    release_autoencoder();
    mx::clear_cache();
  }
  return start(p, std::move(s), latents);
}

ImageDecoder StableDiffusion::detached_decoder(std::optional<Tiling> tiling, std::stop_token stop) {
  return [model = autoencoder(), tiling, stop = std::move(stop)](const mx::array& latents) {
    const auto x = model->decode_scaled(latents, tiling, stop);
    return mx::clip(x * mx::array(0.5f) + mx::array(0.5f), mx::array(0.0f), mx::array(1.0f));
  };
}

}  // namespace mlxcpp::sd

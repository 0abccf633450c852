#include "image-tool/sd_options.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "stable_diffusion/png.h"
#include "support/program.h"
#include "support/terminal.h"

namespace mlxcpp::tools {

namespace {

// What sd::check says, with the option's name in the place of the parameter's.
std::string by_option(const std::string& message) {
  for (const auto& [parameter, option] :
       {std::pair("latent size:", "--latent-width, --latent-height:"),
        {"image count:", "--image-count:"},
        {"steps:", "--steps:"},
        {"cfg:", "--cfg:"}})
    if (message.starts_with(parameter))
      return option + message.substr(std::string_view(parameter).size());
  return message;
}

}  // namespace

void SdOptions::add(CLI::App& app, bool with_size) {
  app.add_option("--model", model,
                 "base, sdxl-turbo, a model of the hub, a diffusers folder, or a .safetensors file")
      ->capture_default_str();
  app.add_option("--config", config,
                 "for a .safetensors file: the model or folder whose configurations and tokenizers "
                 "go with it [the published model of its family]");
  app.add_option("--download", download, "folder for models of the hub [the usual cache]");
  app.add_flag("--float16,!--no-float16", float16, "weights as float16, or as float32 [float16]");
  app.add_option("--dtype", dtype, "of the weights: float32, float16 or bfloat16; goes before that")
      ->check(CLI::IsMember({"float32", "float16", "bfloat16"}));
  app.add_flag("--quantize", quantize, "quantise the linear layers: text 4 bits, UNet 8 bits");
  app.add_option("-p,--prompt", prompt, "what the picture is to show; @FILE reads a file")
      ->capture_default_str();
  app.add_option("-n,--negative-prompt", negative_prompt, "what it is not to show (cfg above 1)");
  app.add_flag("--whole-prompt", whole_prompt,
               "encode a prompt of more than 77 tokens in windows, instead of cutting it");
  app.add_option("--cfg", cfg, "guidance; at 1 and below the UNet runs once a step [the model's]");
  app.add_option("--image-count", image_count, "number of pictures")->capture_default_str();
  app.add_option("--batch-size", batch_size, "pictures decoded at once")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  if (with_size) {
    app.add_option("--latent-width", latent_width, "an eighth of the picture's width")
        ->capture_default_str();
    app.add_option("--latent-height", latent_height, "an eighth of the picture's height")
        ->capture_default_str();
  }
  app.add_option("--rows", rows, "rows of pictures in the output")->capture_default_str();
  app.add_option("--steps", steps, "steps from noise to picture [the model's]");
  app.add_option("--seed", seed,
                 "of the noise; the same picture for the same seed [from the clock]")
      ->check(whole_number());
  app.add_option("--sampler", sampler, "how steps are taken [the model's]")
      ->check(CLI::IsMember(sd::sampler_names()));
  app.add_option("--output", output, "PNG to write")->capture_default_str();
  app.add_option("--preview", preview, "PNG to write after each step: where it is heading");
  app.add_option("--tile", tile,
                 "decode in tiles of so many latents; 0: never [64, for pictures beyond 1024 "
                 "pixels]")
      ->check(CLI::Range(0, 1 << 14));
  app.add_flag("--conserve-memory", conserve_memory,
               "load text encoders, UNet and decoder one after the other");
  app.add_flag("-q,--quiet", quiet, "no progress");
  memory.add(app);
  compute.add(app);
}

sd::EvaluateParameters SdOptions::parameters() const {
  const sd::Preset* preset = sd::find_preset(model);
  sd::EvaluateParameters p;
  p.prompt = read_prompt(prompt);
  if (negative_prompt) p.negative_prompt = read_prompt(*negative_prompt);
  p.whole_prompt = whole_prompt;
  p.cfg = cfg.value_or(preset ? preset->cfg : p.cfg);
  p.steps = steps.value_or(preset ? preset->steps : p.steps);
  p.image_count = image_count;
  p.latent_width = latent_width;
  p.latent_height = latent_height;
  p.seed =
      seed.value_or(static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                              std::chrono::system_clock::now().time_since_epoch())
                                              .count()));
  p.sampler = !sampler.empty() ? sampler : preset ? preset->sampler : "";
  return p;
}

void SdOptions::check(const sd::EvaluateParameters& p) const {
  try {
    sd::check(p);
  } catch (const Error& e) {
    throw CLI::ValidationError(by_option(e.what()));
  }
  if (rows < 1 || rows > image_count)
    throw CLI::ValidationError(fmt::format(
        "--rows: expected 1 to {}, the number of pictures; found {}", image_count, rows));
  if (tile == 1) throw CLI::ValidationError("--tile: expected 0, or at least 2 latents; found 1");
  sd::check_writable(output);
  if (!preview.empty()) sd::check_writable(preview);
}

sd::StableDiffusion SdOptions::open() const {
  compute.apply();
  memory.apply();
  DownloadOptions options;
  options.cache = download;
  if (!quiet) options.on_progress = progress_bar();
  const auto type = dtype == "float32"    ? mlx::core::float32
                    : dtype == "bfloat16" ? mlx::core::bfloat16
                    : dtype == "float16"  ? mlx::core::float16
                    : float16             ? mlx::core::float16
                                          : mlx::core::float32;
  return sd::StableDiffusion(
      interruptible([&](std::stop_token stop) {
        options.stop = std::move(stop);
        return sd::open_model(model, config, options);
      }),
      {.dtype = type, .quantize = quantize, .conserve_memory = conserve_memory});
}

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string duration(double seconds) {
  const long s = std::lround(seconds);
  return s < 60 ? fmt::format("{} s", s) : fmt::format("{}:{:02} min", s / 60, s % 60);
}

// A line that is drawn again on a terminal, and written once a step elsewhere.
class StepProgress {
 public:
  StepProgress(std::string what, int count, bool quiet)
      : what_(std::move(what)), count_(count), quiet_(quiet) {}
  ~StepProgress() {
    if (drawn_ && terminal_.interactive) fmt::print(stderr, "\n");
  }
  void step(int done) {
    if (quiet_) return;
    const double each = seconds_since(start_) / done;
    fmt::print(stderr, "{}{} {}/{}, {:.2f} s each, {} left{}", terminal_.interactive ? "\r" : "",
               what_, done, count_, each, duration(each * (count_ - done)),
               terminal_.interactive ? "\033[K" : "\n");
    std::fflush(stderr);
    drawn_ = true;
  }

 private:
  std::string what_;
  int count_;
  bool quiet_, drawn_ = false;
  Terminal terminal_ = terminal_of(stderr);
  Clock::time_point start_ = Clock::now();
};

std::string parameters_text(const SdOptions& o, const sd::EvaluateParameters& p,
                            const std::string& sampler, PictureSize size,
                            const std::string& extra) {
  std::string text = p.prompt;
  if (p.negative_prompt && !p.negative_prompt->empty())
    text += "\nNegative prompt: " + *p.negative_prompt;
  text += fmt::format("\nSteps: {}, Sampler: {}, CFG scale: {}, Seed: {}, Model: {}{}, Size: {}x{}",
                      p.steps, sampler, p.cfg, p.seed, o.model, o.quantize ? ", Quantized" : "",
                      size.width, size.height);
  return text + extra + ", Version: mlxcpp " MLXCPP_VERSION;
}

mlx::core::array part(const mlx::core::array& x, int begin, int end) {
  auto stop = x.shape();
  stop[0] = end;
  return mlx::core::slice(x, {begin, 0, 0, 0}, stop);
}

}  // namespace

int run_generation(const SdOptions& o, const sd::EvaluateParameters& p, sd::StableDiffusion& model,
                   PictureSize size, const std::function<sd::DenoiseIterator()>& start,
                   const std::string& extra) {
  namespace mx = mlx::core;
  if (p.image_count > 1) {  // a single one is never too large
    const auto [height, width] = sd::grid_size(p.image_count, size.height, size.width, o.rows);
    sd::check_png_size(o.output, height, width);
  }
  const kernels::PrecisionScope precision(o.compute.kernel_precision());
  if (!o.quiet) fmt::print(stderr, "seed: {}\n", p.seed);
  if (!o.conserve_memory) model.ensure_loaded();
  // A single picture stands alone; several stand in frames.
  const auto picture = [&](const mx::array& pixels) {
    return pixels.shape(0) == 1 ? mx::squeeze(pixels, 0) : sd::grid(pixels, o.rows);
  };
  const InterruptScope interrupt;
  std::optional<mx::array> latents;
  {
    auto steps = start();
    StepProgress progress("step", steps.count(), o.quiet);
    while (auto step = steps.next(interrupt.token())) {
      latents = step->latents;
      progress.step(step->index + 1);
      if (!o.preview.empty())
        sd::write_png(o.preview, picture(sd::to_pixels(model.decode(step->predicted))));
    }
    if (steps.stopped()) throw Error("interrupted");
  }
  if (o.conserve_memory) mx::clear_cache();

  const int edge = std::max(latents->shape(1), latents->shape(2));
  const int tile = o.tile.value_or(edge > 128 ? 64 : 0);
  const auto decoder = model.detached_decoder(
      tile > 0 ? std::optional(sd::Tiling{.edge = tile}) : std::nullopt, interrupt.token());
  std::vector<mx::array> images;
  const int count = latents->shape(0), batches = (count + o.batch_size - 1) / o.batch_size;
  StepProgress progress("decoded", batches, o.quiet || batches == 1);
  for (int i = 0; i < batches; ++i) {
    if (interrupt.interrupted()) throw Error("interrupted");
    images.push_back(sd::to_pixels(
        decoder(part(*latents, i * o.batch_size, std::min(count, (i + 1) * o.batch_size)))));
    images.back().eval();
    progress.step(i + 1);
  }
  if (interrupt.interrupted()) throw Error("interrupted");
  const auto sampler = p.sampler.empty() ? sd::sampler_of_config(model.source().scheduler(),
                                                                 model.source().scheduler_where())
                                         : p.sampler;
  sd::write_png(o.output, picture(mx::concatenate(images, 0)),
                {{"parameters", parameters_text(o, p, sampler, size, extra)},
                 {"Software", "mlxcpp " MLXCPP_VERSION}});
  if (!o.quiet) fmt::print(stderr, "wrote {}\n", o.output);
  o.memory.report();
  return 0;
}

}  // namespace mlxcpp::tools

// image-tool sd image: pictures from a picture and a prompt.
#include <algorithm>
#include <cmath>

#include "image-tool/sd_options.h"
#include "vlm/media/resize.h"

namespace mlxcpp::tools {
namespace {

namespace mx = mlx::core;

struct ImageOptions : SdOptions {
  std::string input;
  int max_edge = 1024;
  double strength = 0.9;
};

// The picture shrunk to at most `max_edge`, its edges cut down to multiples of 64 (as
// mlx-swift-examples does, without regard to its proportions); f32 [H, W, 3] in [-1, 1].
mx::array read_input(const std::string& file, int max_edge) {
  constexpr int kMultiple = 64;
  auto picture = media::read_picture(file);
  const double scale =
      std::min(1.0, static_cast<double>(max_edge) / std::max(picture.width, picture.height));
  const auto edge = [&](int n) {
    return static_cast<int>(std::lround(n * scale)) / kMultiple * kMultiple;
  };
  const int width = edge(picture.width), height = edge(picture.height);
  if (width == 0 || height == 0)
    throw Error("{}: {} x {} pixels, at most {} a side, leave none of {} x {}; give a larger one",
                file, picture.width, picture.height, max_edge, kMultiple, kMultiple);
  if (width != picture.width || height != picture.height)
    picture = media::resize(picture, width, height, media::Filter::lanczos);
  const auto pixels = mx::array(picture.rgb.data(), {height, width, 3}, mx::uint8);
  return mx::astype(pixels, mx::float32) * mx::array(2.0f / 255.0f) - mx::array(1.0f);
}

}  // namespace

Command add_image_to_image(CLI::App& app) {
  const auto o = std::make_shared<ImageOptions>();
  app.add_option("--input", o->input, "picture to start from (PNG, JPEG, WebP, GIF, TIFF)")
      ->required();
  app.add_option("--max-edge", o->max_edge, "larger pictures are shrunk to this")
      ->check(CLI::Range(1, 1 << 17))
      ->capture_default_str();
  app.add_option("--strength", o->strength,
                 "share of the way from noise that is taken: 1 keeps nothing of the picture")
      ->capture_default_str();
  o->add(app, false);
  return [o] {
    if (!(o->strength > 0 && o->strength <= 1))
      throw CLI::ValidationError(
          fmt::format("--strength: expected above 0 and at most 1, found {}", o->strength));
    auto parameters = o->parameters();
    o->check(parameters);
    const auto input = read_input(o->input, o->max_edge);
    auto model = o->open();
    // At least one step is taken.
    if (model.shortened(parameters.sampler) == sd::Shortened::steps &&
        parameters.steps * o->strength < 1)
      parameters.steps = sd::fewest_steps(o->strength);
    model.validate(parameters, o->strength);
    return run_generation(
        *o, parameters, model, {.height = input.shape(0), .width = input.shape(1)},
        [&] { return model.generate(input, o->strength, parameters); },
        fmt::format(", Denoising strength: {}", o->strength));
  };
}

}  // namespace mlxcpp::tools

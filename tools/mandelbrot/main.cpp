// The Mandelbrot set: the points c of the complex plane for which z -> z^2 + c, begun at 0, stays
// bounded. All points are computed at once, as one array of complex numbers.
#include <iostream>

#include "support/options.h"
#include "support/program.h"
#include "vlm/media/encode_png.h"

namespace mx = mlx::core;
using namespace mlxcpp;

struct Options {
  int width = 78, height = 32, iterations = 100;
  float x = -0.7f, y = 0.0f, span = 3.2f;  // the middle, and the width of the view
  std::string output;
  tools::DeviceOptions device;
};

// The grid of points c [height, width], complex64.
mx::array plane(const Options& o) {
  // Characters are twice as high as wide; pixels are not.
  const float aspect = o.output.empty() ? 2.0f : 1.0f;
  const float half = o.span / 2,
              half_y = half * aspect * static_cast<float>(o.height) / static_cast<float>(o.width);
  const auto re = mx::linspace(o.x - half, o.x + half, o.width);
  const auto im = mx::linspace(o.y + half_y, o.y - half_y, o.height);
  const mx::array i(mx::complex64_t(0, 1), mx::complex64);
  return mx::expand_dims(re, 0) + mx::expand_dims(im, 1) * i;
}

// How many steps each point stays within the circle of radius 2, int32 [height, width].
mx::array steps_within(const mx::array& c, int iterations) {
  auto z = mx::zeros_like(c);
  auto count = mx::zeros(c.shape(), mx::int32);
  auto within = mx::full(c.shape(), true);
  for (int i = 0; i < iterations; ++i) {
    // Points that have left stay where they are: their squares would soon be no numbers.
    z = mx::where(within, mx::square(z) + c, z);
    within = mx::logical_and(within, mx::less(mx::abs(z), mx::array(2.0f)));
    count = count + mx::astype(within, mx::int32);
    mx::eval(z, within, count);  // so that the graph stays small
  }
  return count;
}

void draw(const mx::array& count, int iterations) {
  const std::string shades = " .,:;i1tfLCG08@";
  for (int y = 0; y < count.shape(0); ++y) {
    for (int x = 0; x < count.shape(1); ++x) {
      const int n = count.data<int>()[static_cast<ptrdiff_t>(y) * count.shape(1) + x];
      std::cout << (n == iterations ? '@' : shades[static_cast<size_t>(n) % (shades.size() - 1)]);
    }
    std::cout << "\n";
  }
}

void write_picture(const mx::array& count, const Options& o) {
  // Smooth colours from sines of different phases; the set itself is black.
  const auto t = mx::astype(count, mx::float32) * mx::array(0.15f);
  const auto inside = mx::equal(count, mx::array(o.iterations));
  std::vector<mx::array> channels;
  for (const float phase : {3.0f, 3.6f, 4.2f})
    channels.push_back(
        mx::where(inside, mx::array(0.0f),
                  mx::sin(t + mx::array(phase)) * mx::array(0.5f) + mx::array(0.5f)));
  auto rgb = mx::round(mx::stack(channels, 2) * mx::array(255.0f));
  rgb = mx::contiguous(mx::astype(rgb, mx::uint8));
  rgb.eval();
  media::write_png(o.output, {rgb.data<uint8_t>(), rgb.size()}, o.width, o.height);
}

int run(const Options& o) {
  o.device.apply();
  const auto count = steps_within(plane(o), o.iterations);
  if (o.output.empty())
    draw(count, o.iterations);
  else
    write_picture(count, o);
  return 0;
}

int main(int argc, char** argv) {
  CLI::App app("The Mandelbrot set, as text or as a picture.", "mandelbrot");
  Options o;
  app.add_option("--width", o.width)->check(CLI::Range(2, 16384))->capture_default_str();
  app.add_option("--height", o.height)->check(CLI::Range(2, 16384))->capture_default_str();
  app.add_option("--iterations", o.iterations)
      ->check(tools::positive_number())
      ->capture_default_str();
  app.add_option("--x", o.x, "real part of the middle")->capture_default_str();
  app.add_option("--y", o.y, "imaginary part of the middle")->capture_default_str();
  app.add_option("--span", o.span, "width of the view")->capture_default_str();
  app.add_option("--output", o.output, "PNG file in place of text");
  o.device.add(app);
  return tools::run_program(app, argc, argv, [&] { return run(o); });
}

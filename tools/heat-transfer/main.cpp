// Heat in a plate: one edge is kept hot, the others cold, and the temperatures within settle. The
// equation du/dt = k (d2u/dx2 + d2u/dy2) on a grid, stepped with slices of whole arrays: no loop
// over points.
#include <cmath>
#include <iostream>

#include "support/options.h"
#include "support/program.h"
#include "vlm/media/encode_png.h"

namespace mx = mlx::core;
using namespace mlxcpp;

// One step of time: every inner point moves towards the mean of its four neighbours. Stable for
// rates up to 1/4.
mx::array step(const mx::array& u, float rate) {
  const int h = u.shape(0), w = u.shape(1);
  const auto part = [&](int y, int x) {
    return mx::slice(u, {1 + y, 1 + x}, {h - 1 + y, w - 1 + x});
  };
  const auto inner = part(0, 0);
  const auto laplacian =
      part(-1, 0) + part(1, 0) + part(0, -1) + part(0, 1) - inner * mx::array(4.0f);
  // The edge stays as it is: the new middle is put into the old plate.
  return mx::slice_update(u, inner + laplacian * mx::array(rate), mx::Shape{1, 1},
                          mx::Shape{h - 1, w - 1});
}

struct Options {
  int size = 64, steps = 20000;
  float rate = 0.25f, tolerance = 1e-5f;
  std::string output;
  tools::DeviceOptions device;
};

void draw(const mx::array& u) {
  constexpr int kRows = 20, kColumns = 60;
  const std::string shades = " .:-=+*#%@";
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c) {
      const int y = r * (u.shape(0) - 1) / (kRows - 1), x = c * (u.shape(1) - 1) / (kColumns - 1);
      const float t = u.data<float>()[static_cast<size_t>(y) * u.shape(1) + x];
      std::cout << shades[static_cast<size_t>(t * 9.99f)];
    }
    std::cout << "\n";
  }
}

// Black, red, yellow, white.
void write_picture(const mx::array& u, const std::string& file) {
  const auto channel = [&](float from) {
    return mx::clip((u - mx::array(from)) * mx::array(3.0f), mx::array(0.0f), mx::array(1.0f));
  };
  auto rgb = mx::stack({channel(0.0f), channel(1 / 3.0f), channel(2 / 3.0f)}, 2);
  rgb = mx::contiguous(mx::astype(mx::round(rgb * mx::array(255.0f)), mx::uint8));
  rgb.eval();
  media::write_png(file, {rgb.data<uint8_t>(), rgb.size()}, u.shape(1), u.shape(0));
}

int run(const Options& o) {
  o.device.apply();
  auto u = mx::zeros({o.size, o.size});
  u = mx::slice_update(u, mx::ones({1, o.size}), mx::Shape{0, 0},
                       mx::Shape{1, o.size});  // the hot edge

  constexpr int kTogether = 100;  // steps in one graph
  int done = 0;
  float change = INFINITY;
  while (done < o.steps && change > o.tolerance) {
    const auto before = u;
    for (int i = 0; i < std::min(kTogether, o.steps - done); ++i) u = step(u, o.rate);
    done += std::min(kTogether, o.steps - done);
    change = mx::max(mx::abs(u - before)).item<float>();
  }
  std::cout << done << " steps, last change " << change << ", mean temperature "
            << mx::mean(u).item<float>() << "\n";
  draw(u);
  if (!o.output.empty()) write_picture(u, o.output);
  return 0;
}

int main(int argc, char** argv) {
  CLI::App app("Heat in a plate with one hot edge.", "heat-transfer");
  Options o;
  app.add_option("--size", o.size, "points a side")
      ->check(CLI::Range(3, 4096))
      ->capture_default_str();
  app.add_option("--steps", o.steps, "at most")
      ->check(tools::positive_number())
      ->capture_default_str();
  app.add_option("--rate", o.rate, "k dt / dx^2")
      ->check(CLI::Range(0.0f, 0.25f))
      ->capture_default_str();
  app.add_option("--tolerance", o.tolerance, "of the change in 100 steps, where it ends")
      ->capture_default_str();
  app.add_option("--output", o.output, "PNG file");
  o.device.add(app);
  return tools::run_program(app, argc, argv, [&] { return run(o); });
}

// Fits a polynomial to noisy points of a sine, by gradient descent and, for comparison, in one
// stroke by least squares: the two ways of fitting that MLX offers.
#include <cmath>
#include <iostream>
#include <string>

#include "nn/losses.h"
#include "optimizers/optimizer.h"
#include "optimizers/train_step.h"
#include "support/options.h"
#include "support/program.h"

namespace mx = mlx::core;
using namespace mlxcpp;

// Powers 0 to degree of each x [N] -> [N, degree + 1].
mx::array powers(const mx::array& x, int degree) {
  return mx::power(mx::expand_dims(x, 1), mx::arange(degree + 1));
}

struct Polynomial : nn::Module {
  explicit Polynomial(int degree) : c(this, "c", mx::zeros({degree + 1})) {}
  mx::array operator()(const mx::array& x) const {
    return mx::matmul(powers(x, c->shape(0) - 1), *c);
  }
  nn::Param c;  // coefficients, the constant first
};

// The coefficients that minimise |A c - y|: with A = QR, those of R c = Q^T y.
mx::array least_squares(const mx::array& a, const mx::array& y) {
  const auto [q, r] = mx::linalg::qr(a, mx::Device::cpu);  // linear algebra is on the CPU only
  const auto right = mx::expand_dims(mx::matmul(mx::transpose(q), y), 1);
  return mx::squeeze(mx::linalg::solve_triangular(r, right, true, mx::Device::cpu), 1);
}

// Points 'o' and a curve '*' over [-1, 1] as text.
void plot(const mx::array& x, const mx::array& y, const mx::array& curve) {
  constexpr int kWidth = 64, kHeight = 17;
  constexpr float kTop = 1.5f;
  std::vector<std::string> rows(kHeight, std::string(kWidth, ' '));
  const auto put = [&](float px, float py, char c) {
    const auto column = std::lround((px + 1) / 2 * (kWidth - 1));
    const auto row = std::lround((kTop - py) / (2 * kTop) * (kHeight - 1));
    if (row >= 0 && row < kHeight && column >= 0 && column < kWidth) rows[row][column] = c;
  };
  for (int i = 0; i < kWidth; ++i)
    put(2.0f * static_cast<float>(i) / (kWidth - 1) - 1, curve.data<float>()[i], '*');
  for (size_t i = 0; i < x.size(); ++i) put(x.data<float>()[i], y.data<float>()[i], 'o');
  for (const auto& row : rows) std::cout << "|" << row << "|\n";
}

struct Options {
  int degree = 5, points = 40, steps = 500;
  float noise = 0.1f;
  uint64_t seed = 0;
  tools::DeviceOptions device;
};

int run(const Options& o) {
  o.device.apply();
  mx::random::seed(o.seed);
  const auto x = mx::random::uniform(-1.0f, 1.0f, {o.points});
  const auto y =
      mx::sin(x * mx::array(3.14159265f)) + mx::random::normal({o.points}) * mx::array(o.noise);
  mx::eval(x, y);

  Polynomial p(o.degree);
  optimizers::Adam adam({.learning_rate = 0.05});
  optimizers::TrainStep step(p, adam, [&](const nn::Arrays&) { return nn::mse_loss(p(x), y); });
  for (int i = 1; i <= o.steps; ++i) {
    const auto loss = step({});
    std::vector<mx::array> wanted{loss, *p.c};
    for (const auto& [key, value] : adam.state()) wanted.push_back(value);
    mx::eval(wanted);
    if (i == 1 || i % std::max(1, o.steps / 5) == 0)
      std::cout << "step " << i << ": loss " << loss.item<float>() << "\n";
  }
  const auto exact = least_squares(powers(x, o.degree), y);
  const auto best = nn::mse_loss(mx::matmul(powers(x, o.degree), exact), y);
  mx::eval(exact, best);
  std::cout << "least squares: loss " << best.item<float>() << "\n"
            << "coefficients by descent:       " << *p.c << "\n"
            << "coefficients by least squares: " << exact << "\n";
  const auto curve = p(mx::linspace(-1, 1, 64));
  mx::eval(curve);
  plot(x, y, curve);
  return 0;
}

int main(int argc, char** argv) {
  CLI::App app("Fits a polynomial to noisy points of a sine.", "curve-fit");
  Options o;
  app.add_option("--degree", o.degree, "of the polynomial")
      ->check(CLI::Range(1, 12))
      ->capture_default_str();
  app.add_option("--points", o.points)->check(CLI::Range(20, 100000))->capture_default_str();
  app.add_option("--noise", o.noise, "standard deviation")->capture_default_str();
  app.add_option("--steps", o.steps, "of the descent")
      ->check(tools::positive_number())
      ->capture_default_str();
  app.add_option("--seed", o.seed)->capture_default_str();
  o.device.add(app);
  return tools::run_program(app, argc, argv, [&] { return run(o); });
}

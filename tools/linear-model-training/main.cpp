// The smallest training there is: a line is found from points on it. What a larger one has, too:
// a module with parameters, a loss, its gradients, an optimizer.
#include <iostream>

#include "nn/losses.h"
#include "optimizers/optimizer.h"
#include "optimizers/train_step.h"
#include "support/options.h"
#include "support/program.h"

namespace mx = mlx::core;
using namespace mlxcpp;

// f(x) = m x + b. The members name and register themselves, so the model knows its parameters.
struct LinearFunction : nn::Module {
  nn::Param m{this, "m", mx::random::uniform(-5.0f, 5.0f, mx::Shape{})};
  nn::Param b{this, "b", mx::random::uniform(-5.0f, 5.0f, mx::Shape{})};
  mx::array operator()(const mx::array& x) const { return *m * x + *b; }
};

struct Options {
  int epochs = 20, batch_size = 8;
  float m = 0.25f, b = 7.0f;
  bool compile = false;
  tools::DeviceOptions device;
};

int run(const Options& o) {
  o.device.apply();
  LinearFunction model;
  mx::eval(*model.m, *model.b);  // MLX is lazy: until now they were a recipe
  optimizers::SGD optimizer({.learning_rate = 0.1});
  optimizers::TrainStep step(
      model, optimizer,
      [&](const nn::Arrays& in) { return nn::mse_loss(model(in[0]), in[1], nn::Reduction::mean); },
      o.compile);

  for (int epoch = 0; epoch < o.epochs; ++epoch) {
    std::cout << "target: m = " << o.m << ", b = " << o.b << "\n"
              << "model:  m = " << model.m->item<float>() << ", b = " << model.b->item<float>()
              << "\n";
    // Random points on the line. A larger batch finds it more slowly: its gradient says in two
    // numbers what all the points want.
    const auto x = mx::random::uniform(-5.0f, 5.0f, {o.batch_size, 1});
    const auto y = mx::array(o.m) * x + mx::array(o.b);
    const auto loss = step({x, y});
    // So far nothing was computed. eval() asks for all that the next step builds on, so that the
    // graph does not grow from step to step.
    mx::eval(loss, *model.m, *model.b);
    std::cout << "loss:   " << loss.item<float>() << "\n\n";
  }
  return 0;
}

int main(int argc, char** argv) {
  CLI::App app("Finds a line from points on it.", "linear-model-training");
  Options o;
  app.add_option("--epochs", o.epochs, "steps")->capture_default_str();
  app.add_option("--batch-size", o.batch_size, "points a step")
      ->check(tools::positive_number())
      ->capture_default_str();
  app.add_option("--m", o.m, "slope of the line to find")->capture_default_str();
  app.add_option("--b", o.b, "its value at 0")->capture_default_str();
  app.add_flag("--compile", o.compile, "compile the step");
  o.device.add(app);
  return tools::run_program(app, argc, argv, [&] { return run(o); });
}

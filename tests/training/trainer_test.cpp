#include "training/trainer.h"

#include <cmath>

#include "adapters/lora.h"
#include "golden/fixture.h"
#include "llm/registry.h"
#include "lm_common/model_context.h"
#include "nn/quantized.h"
#include "optimizers/by_name.h"
#include "support/temp_folder.h"
#include "support/throws.h"
#include "tests/support/paths.h"
#include "training/forecast.h"
#include "training/loss_curve.h"
#include "vlm/media/picture.h"

namespace mlxcpp::training {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::TempFolder;
using ::testing::HasSubstr;

const fs::path kLlm = test::golden_folder() / "llm";

std::unique_ptr<LanguageModel> tiny(const char* name = "llama") {
  return make_language_model(golden::load_fixture_checkpoint(kLlm / name), llm::model_types());
}

// Sequences that count, from different numbers on.
std::vector<Example> counting(int n, int first = 3) {
  std::vector<Example> out;
  for (int i = 0; i < n; ++i) {
    Example e;
    for (int t = 0; t < 12 + i % 5; ++t) e.tokens.push_back(first + (i * 7 + t) % 40);
    e.prompt = i % 3;
    out.push_back(std::move(e));
  }
  return out;
}

struct Settings {
  const char* model = "llama";
  adapters::LoraConfig lora{.num_layers = -1, .how = {.rank = 4, .scale = 4, .dropout = 0.1f}};
  TrainParameters parameters{.iterations = 23,
                             .batch_size = 3,
                             .steps_per_report = 4,
                             .steps_per_eval = 5,
                             .validation_batches = 2,
                             .save_every = 1,
                             .grad_accumulation = 2,
                             .seed = 5};
};

struct TestRun {
  explicit TestRun(const Settings& s = {}, std::vector<Example> data = counting(14))
      : model(tiny(s.model)) {
    mx::random::seed(s.parameters.seed);
    adapters::prepare_training(*model, s.lora);
    trainer.emplace(
        *model,
        optimizers::make_optimizer("adamw", optimizers::make_schedule("cosine_decay", 1e-2, 20, 3)),
        std::move(data), counting(6, 9), s.parameters);
  }
  std::unique_ptr<LanguageModel> model;
  std::optional<Trainer> trainer;
};

bool same(const nn::Weights& a, const nn::Weights& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [path, value] : a)
    if (!b.contains(path) || !mx::array_equal(value, b.at(path)).item<bool>()) return false;
  return true;
}

TEST(Trainer, InterruptedTenTimesIsTheSameBitForBit) {
  TestRun whole;
  whole.trainer->run({});
  ASSERT_TRUE(whole.trainer->finished());
  EXPECT_LT(whole.trainer->train_curve().back().loss,
            0.9 * whole.trainer->train_curve().front().loss);

  const TempFolder folder;
  const auto file = folder / kRunStateFile;
  auto run = std::make_unique<TestRun>();
  // Some stops fall on a report, on a validation, or between two steps of the optimizer.
  for (const int stop_at : {1, 2, 4, 5, 8, 9, 10, 15, 19, 22}) {
    std::stop_source stop;
    run->trainer->run({.on_save =
                           [&](int iteration) {
                             if (iteration != stop_at) return;
                             run->trainer->state().write(file);
                             stop.request_stop();
                           }},
                      stop.get_token());
    EXPECT_EQ(run->trainer->iteration(), stop_at);
    run = std::make_unique<TestRun>();
    run->trainer->restore(RunState::read(file));
  }
  run->trainer->run({});
  EXPECT_TRUE(same(whole.model->trainable_parameters(), run->model->trainable_parameters()));
  EXPECT_TRUE(same(whole.trainer->state().optimizer, run->trainer->state().optimizer));
  EXPECT_EQ(whole.trainer->state().progress, run->trainer->state().progress);
}

TEST(Trainer, StoppedDuringValidationGoesOnTheSame) {
  TestRun whole, stopped;
  whole.trainer->run({});
  std::stop_source stop;
  int validations = 0;
  stopped.trainer->run({.on_validation =
                            [&](const ValidationReport&) {
                              if (++validations == 2) stop.request_stop();
                            }},
                       stop.get_token());
  stopped.trainer->run({});
  EXPECT_TRUE(same(whole.model->trainable_parameters(), stopped.model->trainable_parameters()));
}

TEST(Trainer, CheckpointingChangesNothingButMemory) {
  Settings setup;
  setup.lora.how.dropout = 0;
  TestRun plain(setup);
  setup.parameters.grad_checkpoint = true;
  TestRun again(setup);
  plain.trainer->run({});
  again.trainer->run({});
  for (const auto& [path, value] : plain.model->trainable_parameters())
    EXPECT_LT(mx::max(mx::abs(value - again.model->trainable_parameters().at(path))).item<float>(),
              1e-4)
        << path;
}

TEST(Trainer, ValidationIsTheMeanOverTokens) {
  const auto model = tiny();
  model->eval();
  const auto examples = counting(4);
  double sum = 0;
  int tokens = 0;
  for (size_t i = 0; i < examples.size(); ++i) {
    const Batch b = make_batch(examples, {static_cast<int>(i)}, 2048);
    Caches none;
    const auto logits = mx::astype((*model)(b.inputs, none), mx::float32);
    const auto log_p = logits - mx::logsumexp(logits, -1, true);
    for (int t = 0; t < b.tokens; ++t) {
      const int row = mx::take(b.rows, t, 0).item<int>();
      const int target = mx::take(b.targets, t, 0).item<int>();
      sum -= mx::take(mx::take(mx::squeeze(log_p, 0), row, 0), target, 0).item<float>();
    }
    tokens += b.tokens;
  }
  EXPECT_NEAR(evaluate(*model, examples, 2, -1, 2048), sum / tokens, 1e-4);
  EXPECT_TRUE(!model->training());
}

TEST(Trainer, SkipsBatchesThatAreNotFinite) {
  auto data = counting(6);
  for (int i = 0; i < 3; ++i) data[static_cast<size_t>(i)].tokens[4] = 63;
  Settings setup;
  setup.parameters.iterations = 8;
  setup.parameters.grad_accumulation = 1;
  TestRun run(setup, data);
  // The embedding of one token is broken: a batch with it has no finite loss.
  auto& table = dynamic_cast<nn::Embedding&>(run.model->at("model.embed_tokens"));
  const auto broken = mx::full({1, table.dims()}, NAN);
  table.weight.set(
      mx::slice_update(*table.weight, broken, mx::Shape{63, 0}, mx::Shape{64, table.dims()}));
  std::vector<std::string> warnings;
  run.trainer->run({.on_warning = [&](const std::string& w) { warnings.push_back(w); }});
  EXPECT_EQ(run.trainer->skipped(), 4);
  ASSERT_EQ(warnings.size(), 4u);
  EXPECT_THAT(warnings[0], HasSubstr("the loss is not finite: the batch is skipped"));
  for (const auto& [path, value] : run.model->trainable_parameters())
    EXPECT_TRUE(mx::all(mx::isfinite(value)).item<bool>()) << path;

  for (auto& e : data) e.tokens[4] = 63;
  setup.parameters.max_bad_batches = 3;
  TestRun bad(setup, data);
  auto& all = dynamic_cast<nn::Embedding&>(bad.model->at("model.embed_tokens"));
  all.weight.set(*table.weight);
  EXPECT_THAT(error_of([&] { bad.trainer->run({}); }),
              HasSubstr("iteration 3: 3 batches in a row had no finite loss"));
}

TEST(Trainer, SaysWhatItCuts) {
  Settings setup;
  setup.parameters.iterations = 2;
  setup.parameters.max_seq_length = 8;
  TestRun run(setup);
  std::vector<std::string> warnings;
  run.trainer->run({.on_warning = [&](const std::string& w) { warnings.push_back(w); }});
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_THAT(warnings[0], HasSubstr("longer than 8 tokens and are cut"));
  EXPECT_EQ(run.trainer->state().progress.at("cut"), 6);
}

TEST(Trainer, QuantisedAndDoraAndFullLearn) {
  struct Case {
    const char* model;
    adapters::FineTuneType type;
  };
  for (const auto& [model, type] :
       {Case{"llama-q4", adapters::FineTuneType::lora}, Case{"llama", adapters::FineTuneType::dora},
        Case{"llama", adapters::FineTuneType::full}}) {
    Settings setup;
    setup.model = model;
    setup.lora.type = type;
    setup.lora.num_layers = 2;
    TestRun run(setup);
    run.trainer->run({});
    EXPECT_LT(run.trainer->train_curve().back().loss, run.trainer->train_curve().front().loss)
        << model;
  }
}

TEST(Trainer, RefusesWhatDoesNotBelongToIt) {
  TestRun run;
  auto state = run.trainer->state();
  state.parameters.erase(state.parameters.begin());
  EXPECT_THAT(error_of([&] { run.trainer->restore(state); }), HasSubstr("is missing"));
  state = run.trainer->state();
  state.progress.erase("order");
  EXPECT_THAT(error_of([&] { run.trainer->restore(state); }), HasSubstr("order"));
  state = run.trainer->state();
  state.progress["epoch"] = {99};
  EXPECT_THAT(error_of([&] { run.trainer->restore(state); }), HasSubstr("the data have changed"));
  EXPECT_THAT(error_of([] { check_settings({{"--seed", 1}}, {{"--seed", 2}}, "c"); }),
              HasSubstr("c: the run was begun with --seed = 1, not 2"));
  const TempFolder folder;
  folder.write("x.safetensors", "no");
  EXPECT_THAT(error_of([&] { RunState::read(folder / "x.safetensors"); }),
              HasSubstr("x.safetensors"));
  TrainParameters p;
  p.batch_size = 0;
  EXPECT_THAT(error_of([&] { p.check(); }), HasSubstr("batch size: expected at least 1"));
}

TEST(Forecast, CountsWhatIsAliveAtOnce) {
  const auto x = mx::ones({1000});  // 4000 bytes, there already
  mx::eval(x);
  const auto matrix = [&](const mx::array& a) { return mx::outer(a, a); };
  EXPECT_EQ(peak_of_graph({x}), 0u);
  // One large array; the sum of it is small.
  EXPECT_NEAR(static_cast<double>(peak_of_graph({mx::sum(matrix(x))})), 4e6, 1e5);
  // Two at the same time, and one after the other.
  const auto a = matrix(x);
  EXPECT_NEAR(static_cast<double>(peak_of_graph({mx::sum(mx::matmul(a, a))})), 8e6, 1e5);
  EXPECT_NEAR(static_cast<double>(peak_of_graph({mx::sum(mx::exp(matrix(x)))})), 4e6, 1e5);
}

TEST(LossCurve, IsAPicture) {
  const TempFolder folder;
  write_loss_curve(folder / "none.png", {}, {});
  EXPECT_FALSE(fs::exists(folder / "none.png"));
  write_loss_curve(folder / "loss.png", {{10, 3.5}, {20, 2.5}, {30, 2.2}}, {{0, 3.8}, {30, 2.4}});
  const auto p = media::read_picture(folder / "loss.png");
  EXPECT_GT(p.width, 400);
  int blue = 0, orange = 0;
  for (size_t i = 0; i < p.rgb.size(); i += 3) {
    blue += p.rgb[i] < 100 && p.rgb[i + 2] > 150;
    orange += p.rgb[i] > 200 && p.rgb[i + 2] < 50;
  }
  EXPECT_GT(blue, 500);
  EXPECT_GT(orange, 500);
  write_loss_curve(folder / "flat.png", {{1, 2.0}}, {});  // one point, no range
  EXPECT_TRUE(fs::exists(folder / "flat.png"));
}

TEST(Schedules, FromText) {
  const auto at = [](const optimizers::Schedule& s, int step) {
    return s(mx::array(static_cast<uint64_t>(step))).item<float>();
  };
  const auto cosine = optimizers::make_schedule("cosine_decay", 0.1, 10, 0);
  EXPECT_NEAR(at(cosine, 0), 0.1, 1e-7);
  EXPECT_NEAR(at(cosine, 10), 0, 1e-7);
  const auto warm = optimizers::make_schedule("linear_schedule:0.2,0.1,10", 0, 1, 4);
  EXPECT_NEAR(at(warm, 0), 0, 1e-7);
  EXPECT_NEAR(at(warm, 4), 0.2, 1e-6);
  EXPECT_NEAR(at(warm, 15), 0.1, 1e-6);
  for (const char* bad : {"cosine", "step_decay", "step_decay:1,x,3", "step_decay:1,0.5,0.5"})
    EXPECT_THAT(error_of([&] { optimizers::make_schedule(bad, 0.1, 10, 0); }), HasSubstr(bad));
}

}  // namespace
}  // namespace mlxcpp::training

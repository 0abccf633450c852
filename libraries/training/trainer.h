// Fine-tuning of language models as mlx_lm does it (mlx_lm/tuner/trainer.py), safe against being
// killed at any time.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "lm_common/language_model.h"
#include "optimizers/gradients.h"
#include "optimizers/optimizer.h"
#include "training/batches.h"
#include "training/run_state.h"

namespace mlxcpp::training {

struct TrainParameters {
  int iterations = 1000;  // batches
  int batch_size = 4;
  int steps_per_report = 10;
  int steps_per_eval = 100;
  int validation_batches = 10;  // -1: all
  int save_every = 100;
  int max_seq_length = 2048;
  int grad_accumulation = 1;     // batches for one step of the optimizer
  bool grad_checkpoint = false;  // less memory, a second forward pass
  uint32_t seed = 0;
  int max_bad_batches = 10;  // in a row, without a finite loss and gradient: then the run ends

  void check() const;  // Error for what cannot be
};

struct TrainReport {
  int iteration = 0;
  double loss = 0;  // mean of the batches since the last report
  double learning_rate = 0;
  double iterations_per_second = 0, tokens_per_second = 0;
  int64_t trained_tokens = 0;    // since the beginning of the run
  size_t peak_array_memory = 0;  // bytes of MLX's arrays
  double seconds_left = 0;
};
struct ValidationReport {
  int iteration = 0;  // batches trained before it
  double loss = 0;
  double seconds = 0;
};
// A point of the loss curve.
struct LossPoint {
  int iteration;
  double loss;
};

// What a trainer tells while it works; each may be empty.
struct TrainEvents {
  std::function<void(const TrainReport&)> on_train = {};
  std::function<void(const ValidationReport&)> on_validation = {};
  std::function<void(int iteration)> on_save = {};  // time to write state() and the parameters
  std::function<void(const std::string&)> on_warning = {};
};

// Mean loss of a token over at most `num_batches` batches (-1: all), in the order of the data or
// in that of `order`.
double evaluate(LanguageModel& model, const std::vector<Example>& examples, int batch_size,
                int num_batches, int max_seq_length, DataOrder* order = nullptr,
                const std::stop_token& stop = {});

// A run on a model whose trainable parameters are what is to be trained. `valid` may be empty. The
// results follow from model, data, parameters and optimizer alone, bit for bit, whether or not the
// run is interrupted between two iterations and goes on in another process from state(). For the
// thread of the model's arrays.
class Trainer {
 public:
  Trainer(LanguageModel& model, std::unique_ptr<optimizers::Optimizer> optimizer,
          std::vector<Example> train, std::vector<Example> valid, TrainParameters parameters);

  // Up to parameters.iterations, or until asked to stop. Error when too many batches in a row were
  // bad; the state is then that before them.
  void run(const TrainEvents& events, const std::stop_token& stop = {});

  int iteration() const { return iteration_; }  // batches done
  bool finished() const { return iteration_ >= p_.iterations; }
  // Evaluated. `settings` is the caller's.
  RunState state() const;
  // Goes on from there. Error when it does not fit the model.
  void restore(const RunState& state);

  const std::vector<LossPoint>& train_curve() const { return train_curve_; }
  const std::vector<LossPoint>& valid_curve() const { return valid_curve_; }
  int skipped() const { return skipped_; }  // batches without a finite loss and gradient

  // Bytes that a step with the largest batch will take beside what there is now: gradients,
  // activations, the optimizer's state. Nothing is computed.
  size_t forecast();

 private:
  struct Result {
    mx::array loss;
    nn::Weights gradients;
  };
  void begin_epoch();  // unless one is under way
  Result loss_and_gradients(const Batch& batch, int iteration);
  bool take_batch(const TrainEvents& events);  // false: it was skipped
  void update();
  void validate(const TrainEvents& events, const std::stop_token& stop);

  LanguageModel& model_;
  std::unique_ptr<optimizers::Optimizer> optimizer_;
  std::vector<Example> train_, valid_;
  TrainParameters p_;
  std::vector<std::vector<int>> batches_;

  int iteration_ = 0;
  DataOrder order_;
  std::vector<int> epoch_;  // numbers of batches, in this epoch's order
  size_t epoch_at_ = 0;     // of them done
  optimizers::GradientAccumulator accumulator_;
  double loss_sum_ = 0;  // since the last report
  int loss_count_ = 0;
  int64_t tokens_ = 0, trained_tokens_ = 0;
  int skipped_ = 0, bad_in_a_row_ = 0, cut_ = 0;
  std::vector<LossPoint> train_curve_, valid_curve_;
};

}  // namespace mlxcpp::training

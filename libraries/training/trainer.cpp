#include "training/trainer.h"

#include <chrono>
#include <cmath>

#include "kernels/cross_entropy.h"
#include "lm_common/memory.h"
#include "nn/checkpoint.h"
#include "nn/value_and_grad.h"
#include "training/forecast.h"

namespace mlxcpp::training {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point t) {
  return std::chrono::duration<double>(Clock::now() - t).count();
}

// Mean cross entropy of the batch's targets. The head, often the largest layer, sees only outputs
// that have a loss.
mx::array batch_loss(const LanguageModel& model, const Batch& batch) {
  Caches none;
  const auto hidden = model.hidden(batch.inputs, none);
  const auto rows = mx::take(mx::reshape(hidden, {-1, hidden.shape(-1)}), batch.rows, 0);
  const auto losses = kernels::last_cross_entropy(model.logits(rows), batch.targets);
  return mx::mean(mx::astype(losses, mx::float32));
}

class TrainingMode {
 public:
  TrainingMode(nn::Module& m, bool on) : m_(m), before_(m.training()) { m.train(on); }
  ~TrainingMode() { m_.train(before_); }
  TrainingMode(const TrainingMode&) = delete;
  TrainingMode& operator=(const TrainingMode&) = delete;

 private:
  nn::Module& m_;
  bool before_;
};

// The random numbers of an iteration follow from the seed and its number, so that a checkpoint
// need not hold a generator.
uint64_t seed_of(uint32_t seed, int iteration) {
  return (uint64_t{seed} << 32) + static_cast<uint64_t>(iteration);
}

std::vector<mx::array> values_of(const nn::Weights& weights) {
  std::vector<mx::array> out;
  for (const auto& [path, value] : weights) out.push_back(value);
  return out;
}

Json curve_json(const std::vector<LossPoint>& curve) {
  Json out = Json::array();
  for (const auto& p : curve) out.push_back({p.iteration, p.loss});
  return out;
}

std::vector<LossPoint> read_curve(const Json& json) {
  std::vector<LossPoint> out;
  for (const Json& p : json) out.push_back({p.at(0).get<int>(), p.at(1).get<double>()});
  return out;
}

}  // namespace

void TrainParameters::check() const {
  const auto positive = [](const char* what, int value) {
    if (value < 1) throw Error("{}: expected at least 1, found {}", what, value);
  };
  positive("iterations", iterations);
  positive("batch size", batch_size);
  positive("steps per report", steps_per_report);
  positive("steps per eval", steps_per_eval);
  positive("save every", save_every);
  positive("gradient accumulation", grad_accumulation);
  positive("bad batches", max_bad_batches);
  if (validation_batches < 1 && validation_batches != -1)
    throw Error("validation batches: expected at least 1, or -1 for all, found {}",
                validation_batches);
  if (max_seq_length < 2)
    throw Error("sequence length: expected at least 2, found {}", max_seq_length);
}

double evaluate(LanguageModel& model, const std::vector<Example>& examples, int batch_size,
                int num_batches, int max_seq_length, DataOrder* order,
                const std::stop_token& stop) {
  const TrainingMode mode(model, false);
  const auto batches =
      batches_of(examples, std::min(batch_size, static_cast<int>(examples.size())));
  const int n = static_cast<int>(batches.size());
  std::vector<int> which;
  if (order) {
    which = order->permutation(n);
  } else {
    for (int i = 0; i < n; ++i) which.push_back(i);
  }
  if (num_batches >= 0 && num_batches < n) which.resize(static_cast<size_t>(num_batches));
  double sum = 0;
  int64_t tokens = 0;
  for (const int i : which) {
    if (stop.stop_requested()) break;
    const Batch batch = make_batch(examples, batches[static_cast<size_t>(i)], max_seq_length);
    if (batch.tokens == 0) continue;  // prompts alone
    sum += batch_loss(model, batch).item<float>() * batch.tokens;
    tokens += batch.tokens;
  }
  return tokens ? sum / static_cast<double>(tokens) : 0;
}

Trainer::Trainer(LanguageModel& model, std::unique_ptr<optimizers::Optimizer> optimizer,
                 std::vector<Example> train, std::vector<Example> valid, TrainParameters parameters)
    : model_(model),
      optimizer_(std::move(optimizer)),
      train_(std::move(train)),
      valid_(std::move(valid)),
      p_(parameters),
      order_(parameters.seed) {
  p_.check();
  batches_ = batches_of(train_, p_.batch_size);
}

void Trainer::begin_epoch() {
  if (epoch_at_ < epoch_.size()) return;
  epoch_ = order_.permutation(static_cast<int>(batches_.size()));
  epoch_at_ = 0;
}

Trainer::Result Trainer::loss_and_gradients(const Batch& batch, int iteration) {
  const uint64_t seed = seed_of(p_.seed, iteration);
  mx::random::seed(seed);
  const nn::CheckpointScope checkpoints(p_.grad_checkpoint, seed);
  const std::function<mx::array(const nn::Arrays&)> loss = [&](const nn::Arrays&) {
    return batch_loss(model_, batch);
  };
  auto [value, gradients] = nn::value_and_grad(model_, loss)({});
  return {std::move(value), std::move(gradients)};
}

bool Trainer::take_batch(const TrainEvents& events) {
  const auto warn = [&](const std::string& text) {
    if (events.on_warning) events.on_warning(text);
  };
  const Batch batch =
      make_batch(train_, batches_[static_cast<size_t>(epoch_[epoch_at_++])], p_.max_seq_length);
  if (batch.cut > 0) {
    if (cut_ == 0)
      warn(fmt::format("{} of the batch's examples are longer than {} tokens and are cut",
                       batch.cut, p_.max_seq_length));
    cut_ += batch.cut;
  }
  if (batch.tokens == 0) {
    warn(fmt::format("iteration {}: the batch has no token to learn: skipped", iteration_ + 1));
    return false;
  }
  Result result = loss_and_gradients(batch, iteration_ + 1);
  // One number tells of all gradients: their norm is not finite when any of them is not.
  auto norm = mx::array(0.0f);
  for (const auto& [path, g] : result.gradients)
    norm = norm + mx::sum(mx::square(mx::astype(g, mx::float32)));
  auto wanted = values_of(result.gradients);
  wanted.insert(wanted.end(), {result.loss, norm});
  mx::eval(wanted);
  check_memory_limit();
  const double loss = result.loss.item<float>();
  if (!std::isfinite(loss) || !std::isfinite(norm.item<float>())) {
    ++skipped_;
    ++bad_in_a_row_;
    warn(fmt::format("iteration {}: {} is not finite: the batch is skipped ({} in a row)",
                     iteration_ + 1, std::isfinite(loss) ? "the gradient" : "the loss",
                     bad_in_a_row_));
    return false;
  }
  bad_in_a_row_ = 0;
  accumulator_.add(result.gradients);
  loss_sum_ += loss;
  ++loss_count_;
  tokens_ += batch.tokens;
  trained_tokens_ += batch.tokens;
  return true;
}

void Trainer::update() {
  if (accumulator_.count() == 0) return;
  optimizer_->update(model_, accumulator_.take());
  auto wanted = values_of(model_.trainable_parameters());
  for (const auto& [key, value] : optimizer_->state()) wanted.push_back(value);
  mx::eval(wanted);
}

void Trainer::validate(const TrainEvents& events, const std::stop_token& stop) {
  const auto began = Clock::now();
  const double loss = evaluate(model_, valid_, p_.batch_size, p_.validation_batches,
                               p_.max_seq_length, &order_, stop);
  if (stop.stop_requested()) return;
  valid_curve_.push_back({iteration_, loss});
  if (events.on_validation) events.on_validation({iteration_, loss, seconds_since(began)});
}

void Trainer::run(const TrainEvents& events, const std::stop_token& stop) {
  const TrainingMode mode(model_, true);
  const auto began = Clock::now();
  const int first = iteration_;
  double time = 0;  // of training alone, since the last report
  int done = 0;     // batches since then
  while (!finished() && !stop.stop_requested()) {
    // mlx_lm draws the order of an epoch's batches before that of the validation. What is drawn for
    // an iteration that does not happen is put back.
    const auto order_before = order_.state();
    const auto epoch_before = epoch_;
    const auto at_before = epoch_at_;
    begin_epoch();
    const int now = iteration_ + 1;
    if (!valid_.empty() && (now == 1 || now % p_.steps_per_eval == 0 || now == p_.iterations)) {
      validate(events, stop);
      if (stop.stop_requested()) {
        order_.set_state(order_before);
        epoch_ = epoch_before;
        epoch_at_ = at_before;
        break;
      }
    }
    const auto step_began = Clock::now();
    take_batch(events);
    if (bad_in_a_row_ >= p_.max_bad_batches)
      throw Error(
          "iteration {}: {} batches in a row had no finite loss and gradient: the learning "
          "rate may be too high, or the data broken",
          now, bad_in_a_row_);
    if (now % p_.grad_accumulation == 0) update();
    iteration_ = now;
    ++done;
    time += seconds_since(step_began);

    if (now % p_.steps_per_report == 0 || now == p_.iterations) {
      if (loss_count_ > 0) {
        const double loss = loss_sum_ / loss_count_;
        train_curve_.push_back({now, loss});
        if (events.on_train)
          events.on_train({now, loss, optimizer_->learning_rate().item<float>(), done / time,
                           static_cast<double>(tokens_) / time, trained_tokens_,
                           mx::get_peak_memory(),
                           seconds_since(began) / (now - first) * (p_.iterations - now)});
      }
      loss_sum_ = time = 0;
      loss_count_ = done = 0;
      tokens_ = 0;
    }
    if (events.on_save && (now % p_.save_every == 0 || now == p_.iterations)) events.on_save(now);
  }
}

RunState Trainer::state() const {
  RunState out;
  out.parameters = model_.trainable_parameters();
  out.optimizer = optimizer_->state();
  out.accumulated = accumulator_.sum();
  out.progress = {{"iteration", iteration_},
                  {"order", order_.state()},
                  {"epoch", epoch_},
                  {"epoch_at", epoch_at_},
                  {"accumulated", accumulator_.count()},
                  {"loss_sum", loss_sum_},
                  {"loss_count", loss_count_},
                  {"tokens", tokens_},
                  {"trained_tokens", trained_tokens_},
                  {"skipped", skipped_},
                  {"bad_in_a_row", bad_in_a_row_},
                  {"cut", cut_},
                  {"train_curve", curve_json(train_curve_)},
                  {"valid_curve", curve_json(valid_curve_)}};
  return out;
}

void Trainer::restore(const RunState& state) {
  const nn::Weights now = model_.trainable_parameters();
  for (const auto& [path, value] : now)
    if (!state.parameters.contains(path))
      throw Error("checkpoint: the parameter '{}' is missing", path);
  if (state.parameters.size() != now.size())
    throw Error("checkpoint: expected {} parameters, found {}", now.size(),
                state.parameters.size());
  model_.update(state.parameters);
  optimizer_->set_state(state.optimizer);
  try {
    const Json& j = state.progress;
    iteration_ = j.at("iteration");
    order_.set_state(j.at("order"));
    epoch_ = j.at("epoch").get<std::vector<int>>();
    epoch_at_ = j.at("epoch_at");
    accumulator_.restore(state.accumulated, j.at("accumulated"));
    loss_sum_ = j.at("loss_sum");
    loss_count_ = j.at("loss_count");
    tokens_ = j.at("tokens");
    trained_tokens_ = j.at("trained_tokens");
    skipped_ = j.at("skipped");
    bad_in_a_row_ = j.at("bad_in_a_row");
    cut_ = j.at("cut");
    train_curve_ = read_curve(j.at("train_curve"));
    valid_curve_ = read_curve(j.at("valid_curve"));
  } catch (const Json::exception& e) {
    throw Error("checkpoint: {}", e.what());
  }
  for (const int i : epoch_)
    if (i < 0 || i >= std::ssize(batches_))
      throw Error("checkpoint: batch {} of {}: the data have changed", i, batches_.size());
  if (epoch_at_ > epoch_.size()) throw Error("checkpoint: the place in the data is beyond them");
}

size_t Trainer::forecast() {
  // The batch with the most tokens.
  const std::vector<int>* largest = &batches_.front();
  int most = 0;
  for (const auto& b : batches_)
    for (const int i : b)
      if (const int n = static_cast<int>(train_[static_cast<size_t>(i)].tokens.size()); n > most) {
        most = n;
        largest = &b;
      }
  const TrainingMode mode(model_, true);
  const Batch batch = make_batch(train_, *largest, p_.max_seq_length);
  const Result result = loss_and_gradients(batch, 0);
  auto outputs = values_of(result.gradients);
  outputs.push_back(result.loss);
  size_t gradients = 0;
  for (const auto& [path, g] : result.gradients) gradients += g.nbytes();
  // Adam and its kin keep two arrays a parameter, and the update makes each of them anew.
  const size_t state = 2 * gradients + (p_.grad_accumulation > 1 ? gradients : 0);
  return state + std::max(peak_of_graph(outputs), 4 * gradients);
}

}  // namespace mlxcpp::training

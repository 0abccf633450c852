// Optimizers with the results of mlx.optimizers (mlx/optimizers/optimizers.py), step by step:
//   Adam adam({.learning_rate = 1e-3});
//   auto [loss, gradients] = step({x, y});        // nn::value_and_grad
//   adam.update(model, gradients);
//   mx::eval(loss, model.parameters(), adam.state())
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "nn/module.h"
#include "optimizers/schedules.h"

namespace mlxcpp::optimizers {

using nn::Weights;

// A fixed learning rate, or one that follows the step.
struct Rate {
  Rate(double fixed) : schedule(constant(fixed)), fixed(true) {}
  Rate(Schedule s) : schedule(std::move(s)) {}

  Schedule schedule;
  bool fixed = false;
};

// One step is one call of update() or apply(). Everything is lazy: evaluate the parameters and
// state(). For one thread.
class Optimizer {
 public:
  virtual ~Optimizer() = default;

  // New values from gradients by path; the parameters may be more than the gradients. Gradients and
  // parameters have the same shapes; results have the parameters' dtypes where the gradients do.
  virtual Weights apply(const Weights& gradients, const Weights& parameters) = 0;
  void update(nn::Module& m, const Weights& gradients);

  // All that a later process needs to go on: "step", "learning_rate" and, a parameter at a time,
  // "PATH.m", "PATH.v", ...
  virtual Weights state() const = 0;
  // Error when a key is missing, or has another shape than the parameter that it is applied to.
  virtual void set_state(const Weights& state) = 0;
  // The rate of the last step (of the first one, before that).
  virtual mx::array learning_rate() const = 0;
};

// What the optimizers below share: the count of steps, the rate, and a few arrays a parameter.
class StepOptimizer : public Optimizer {
 public:
  explicit StepOptimizer(Rate rate);

  Weights apply(const Weights& gradients, const Weights& parameters) override;
  Weights state() const override;
  void set_state(const Weights& state) override;
  mx::array learning_rate() const override { return rate_now_; }
  // From now on, in place of the rate (or schedule) that there was.
  void set_learning_rate(double rate);
  const mx::array& step() const { return step_; }  // steps begun, uint64

 protected:
  using Slots = std::map<std::string, mx::array>;
  virtual Slots initial_slots(const mx::array& parameter) const = 0;
  virtual mx::array apply_one(const mx::array& gradient, const mx::array& parameter,
                              Slots& slots) const = 0;
  mx::array rate_as(mx::Dtype dtype) const { return mx::astype(rate_now_, dtype); }

 private:
  Rate rate_;
  mx::array step_, rate_now_;
  std::map<std::string, Slots> slots_;  // by the parameter's path
};

// v as a scalar that does not change a's dtype, as Python's numbers do not.
mx::array scalar(double v, const mx::array& a);

struct SGDOptions {
  Rate learning_rate;
  double momentum = 0, weight_decay = 0, dampening = 0;
  bool nesterov = false;  // needs a momentum and no dampening
};
class SGD final : public StepOptimizer {
 public:
  explicit SGD(SGDOptions o);

 private:
  Slots initial_slots(const mx::array& p) const override;
  mx::array apply_one(const mx::array& g, const mx::array& p, Slots& s) const override;
  SGDOptions o_;
};

// Tieleman and Hinton, 2012.
struct RMSpropOptions {
  Rate learning_rate;
  double alpha = 0.99, eps = 1e-8;
};
class RMSprop final : public StepOptimizer {
 public:
  explicit RMSprop(RMSpropOptions o);

 private:
  Slots initial_slots(const mx::array& p) const override;
  mx::array apply_one(const mx::array& g, const mx::array& p, Slots& s) const override;
  RMSpropOptions o_;
};

// Duchi, Hazan and Singer, JMLR 2011.
struct AdagradOptions {
  Rate learning_rate;
  double eps = 1e-8;
};
class Adagrad final : public StepOptimizer {
 public:
  explicit Adagrad(AdagradOptions o);

 private:
  Slots initial_slots(const mx::array& p) const override;
  mx::array apply_one(const mx::array& g, const mx::array& p, Slots& s) const override;
  AdagradOptions o_;
};

// arXiv 1212.5701, with a learning rate.
struct AdaDeltaOptions {
  Rate learning_rate;
  double rho = 0.9, eps = 1e-6;
};
class AdaDelta final : public StepOptimizer {
 public:
  explicit AdaDelta(AdaDeltaOptions o);

 private:
  Slots initial_slots(const mx::array& p) const override;
  mx::array apply_one(const mx::array& g, const mx::array& p, Slots& s) const override;
  AdaDeltaOptions o_;
};

// arXiv 1412.6980; without bias correction unless asked for, as in MLX.
struct AdamOptions {
  Rate learning_rate;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  bool bias_correction = false;
};
class Adam : public StepOptimizer {
 public:
  explicit Adam(AdamOptions o);

 protected:
  Slots initial_slots(const mx::array& p) const override;
  mx::array apply_one(const mx::array& g, const mx::array& p, Slots& s) const override;
  AdamOptions o_;
};

// arXiv 1711.05101.
struct AdamWOptions {
  Rate learning_rate;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.01;
  bool bias_correction = false;
};
class AdamW final : public Adam {
 public:
  explicit AdamW(const AdamWOptions& o);

 private:
  mx::array apply_one(const mx::array& g, const mx::array& p, Slots& s) const override;
  double weight_decay_;
};

// The infinity norm in place of Adam's second moment; section 7.1 of the same paper.
struct AdamaxOptions {
  Rate learning_rate;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
};
class Adamax final : public Adam {
 public:
  explicit Adamax(const AdamaxOptions& o);

 private:
  mx::array apply_one(const mx::array& g, const mx::array& p, Slots& s) const override;
};

// arXiv 2302.06675.
struct LionOptions {
  Rate learning_rate;
  double beta1 = 0.9, beta2 = 0.99, weight_decay = 0;
};
class Lion final : public StepOptimizer {
 public:
  explicit Lion(LionOptions o);

 private:
  Slots initial_slots(const mx::array& p) const override;
  mx::array apply_one(const mx::array& g, const mx::array& p, Slots& s) const override;
  LionOptions o_;
};

// arXiv 1804.04235. Matrices (and their batches) keep a row and a column of second moments.
struct AdafactorOptions {
  std::optional<Rate> learning_rate = {};  // needed unless relative_step
  double eps1 = 1e-30, eps2 = 1e-3, clip_threshold = 1, decay_rate = -0.8;
  std::optional<double> beta1 = {};
  double weight_decay = 0;
  bool scale_parameter = true, relative_step = true, warmup_init = false;
};
class Adafactor final : public StepOptimizer {
 public:
  explicit Adafactor(AdafactorOptions o);

 private:
  Slots initial_slots(const mx::array& p) const override;
  mx::array apply_one(const mx::array& g, const mx::array& p, Slots& s) const override;
  mx::array rate_for(const mx::array& parameter_rms) const;
  AdafactorOptions o_;
};

// Momentum orthogonalised by Newton-Schulz iterations (Keller Jordan, "Muon: an optimizer for
// hidden layers in neural networks", 2024). Vectors get plain momentum.
struct MuonOptions {
  Rate learning_rate;
  double momentum = 0.95, weight_decay = 0.01;
  bool nesterov = true;
  int ns_steps = 5;
};
class Muon final : public StepOptimizer {
 public:
  explicit Muon(MuonOptions o);

 private:
  Slots initial_slots(const mx::array& p) const override;
  mx::array apply_one(const mx::array& g, const mx::array& p, Slots& s) const override;
  MuonOptions o_;
};

}  // namespace mlxcpp::optimizers

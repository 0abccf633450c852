// How much noise a picture has at each of the training's timesteps, and the settings of a
// scheduler_config.json that all samplers share. Reference: diffusers, schedulers/.
#pragma once

#include <string>
#include <vector>

#include "core/json.h"

namespace mlxcpp::sd {

enum class Prediction { epsilon, v, sample };  // what the UNet's output is
enum class Spacing { linspace, leading, trailing };

// alphas_cumprod of the training schedule: the share of the picture's variance at timestep i.
class NoiseSchedule {
 public:
  // beta_schedule linear, scaled_linear or squaredcos_cap_v2, trained_betas,
  // rescale_betas_zero_snr; what is absent is as in diffusers: linear from 0.0001 to 0.02.
  NoiseSchedule(const Json& config, const std::string& where);

  int size() const { return static_cast<int>(alphas_cumprod_.size()); }  // num_train_timesteps
  double alpha_cumprod(int timestep) const { return alphas_cumprod_.at(timestep); }
  // sqrt((1 - a) / a), by timestep.
  const std::vector<double>& sigmas() const { return sigmas_; }
  // The sigma of a timestep between two, linearly.
  double sigma_at(double timestep) const;
  // The timestep whose sigma that is, linearly in its logarithm.
  double timestep_at(double sigma) const;

 private:
  std::vector<double> alphas_cumprod_, sigmas_, log_sigmas_;  // each rounded to float32
};

// Timesteps of training schedules, from the noisiest, as diffusers places them. `steps` at most
// `train_steps`.
std::vector<double> spaced_timesteps(Spacing spacing, int train_steps, int steps, int offset);

Prediction read_prediction(const Json& config, const std::string& where);
Spacing read_spacing(const Json& config, const std::string& where, Spacing otherwise);

// n sigmas from the largest to the smallest (Karras et al., arXiv 2206.00364, rho 7), or evenly in
// their logarithm.
std::vector<double> karras_sigmas(double largest, double smallest, int n);
std::vector<double> exponential_sigmas(double largest, double smallest, int n);

}  // namespace mlxcpp::sd

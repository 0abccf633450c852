#include "stable_diffusion/noise_schedule.h"

#include <algorithm>
#include <cmath>

namespace mlxcpp::sd {
namespace {

constexpr int kMostTimesteps = 100000;

double to_float(double x) { return static_cast<float>(x); }

struct BetaConfig {
  int num_train_timesteps = 1000;
  double beta_start = 0.0001, beta_end = 0.02;
  std::string beta_schedule = "linear";
  std::vector<double> trained_betas;
  bool rescale_betas_zero_snr = false;

  void fields(ConfigReader& v) {
    v.maybe("num_train_timesteps", num_train_timesteps);
    v.maybe("beta_start", beta_start);
    v.maybe("beta_end", beta_end);
    v.maybe("beta_schedule", beta_schedule);
    v.maybe("trained_betas", trained_betas);
    v.maybe("rescale_betas_zero_snr", rescale_betas_zero_snr);
  }
};

// torch.linspace in float32: from both ends to the middle.
std::vector<double> linspace_f32(double start, double end, int n) {
  const float a = static_cast<float>(start), b = static_cast<float>(end);
  const float step = n > 1 ? (b - a) / static_cast<float>(n - 1) : 0;
  std::vector<double> out;
  for (int i = 0; i < n; ++i)
    out.push_back(i < n / 2 ? a + step * static_cast<float>(i)
                            : b - step * static_cast<float>(n - 1 - i));
  return out;
}

std::vector<double> betas_of(const BetaConfig& c, const std::string& where) {
  const int n = c.num_train_timesteps;
  if (!c.trained_betas.empty()) return c.trained_betas;
  if (c.beta_schedule == "linear") return linspace_f32(c.beta_start, c.beta_end, n);
  if (c.beta_schedule == "scaled_linear") {
    auto betas = linspace_f32(std::sqrt(c.beta_start), std::sqrt(c.beta_end), n);
    for (double& b : betas) b = to_float(b * b);
    return betas;
  }
  if (c.beta_schedule == "squaredcos_cap_v2") {
    const auto bar = [](double t) {
      const double x = std::cos((t + 0.008) / 1.008 * M_PI / 2);
      return x * x;
    };
    std::vector<double> betas;
    for (int i = 0; i < n; ++i)
      betas.push_back(to_float(std::min(
          1 - bar(static_cast<double>(i + 1) / n) / bar(static_cast<double>(i) / n), 0.999)));
    return betas;
  }
  throw Error(
      "{}: 'beta_schedule' is '{}', which is not supported; linear, scaled_linear and "
      "squaredcos_cap_v2 are",
      where, c.beta_schedule);
}

// Betas whose last timestep is noise alone (arXiv 2305.08891, algorithm 1).
std::vector<double> rescaled_to_zero_snr(const std::vector<double>& betas) {
  std::vector<double> root;
  double product = 1;
  for (const double b : betas) root.push_back(std::sqrt(product *= to_float(1 - b)));
  const double first = root.front(), last = root.back();
  for (double& r : root) r = (r - last) * first / (first - last);
  std::vector<double> out;
  for (size_t i = 0; i < root.size(); ++i) {
    const double bar = root[i] * root[i];
    out.push_back(to_float(1 - (i == 0 ? bar : bar / (root[i - 1] * root[i - 1]))));
  }
  return out;
}

}  // namespace

NoiseSchedule::NoiseSchedule(const Json& config, const std::string& where) {
  auto c = read_fields<BetaConfig>(config, where);
  if (!c.trained_betas.empty() && std::ssize(c.trained_betas) != c.num_train_timesteps)
    throw Error("{}: 'trained_betas' has {} entries, expected {} as 'num_train_timesteps'", where,
                c.trained_betas.size(), c.num_train_timesteps);
  if (c.num_train_timesteps < 2 || c.num_train_timesteps > kMostTimesteps)
    throw Error("{}: 'num_train_timesteps' must be between 2 and {}, found {}", where,
                kMostTimesteps, c.num_train_timesteps);
  auto betas = betas_of(c, where);
  for (const double b : betas)
    if (!(b > 0 && b < 1))
      throw Error("{}: the betas must lie between 0 and 1, found {}", where, b);
  if (c.rescale_betas_zero_snr) betas = rescaled_to_zero_snr(betas);
  double product = 1;
  for (const double b : betas) alphas_cumprod_.push_back(to_float(product *= to_float(1 - b)));
  for (double a : alphas_cumprod_) {
    // Nothing of the picture is left at the last timestep, but its sigma must be a number.
    if (c.rescale_betas_zero_snr) a = std::max(a, std::exp2(-24));
    sigmas_.push_back(to_float(std::sqrt(to_float(to_float(1 - a) / a))));
    log_sigmas_.push_back(to_float(std::log(sigmas_.back())));
  }
}

double NoiseSchedule::sigma_at(double timestep) const {
  const double last = static_cast<double>(sigmas_.size() - 1);
  const double t = std::clamp(timestep, 0.0, last);
  const auto low = static_cast<size_t>(std::min(t, last - 1));
  return sigmas_[low] + (t - static_cast<double>(low)) * (sigmas_[low + 1] - sigmas_[low]);
}

double NoiseSchedule::timestep_at(double sigma) const {
  const double log_sigma = std::log(std::max(sigma, 1e-10));
  // The last timestep whose sigma is not above; sigmas ascend.
  const auto above = std::upper_bound(log_sigmas_.begin(), log_sigmas_.end(), log_sigma);
  const auto low = static_cast<size_t>(std::clamp<ptrdiff_t>(
      above - log_sigmas_.begin() - 1, 0, static_cast<ptrdiff_t>(log_sigmas_.size()) - 2));
  const double w = std::clamp(
      (log_sigmas_[low] - log_sigma) / (log_sigmas_[low] - log_sigmas_[low + 1]), 0.0, 1.0);
  return (1 - w) * static_cast<double>(low) + w * static_cast<double>(low + 1);
}

std::vector<double> spaced_timesteps(Spacing spacing, int train_steps, int steps, int offset) {
  std::vector<double> out;
  switch (spacing) {
    case Spacing::linspace:
      for (int i = steps; i-- > 0;)
        out.push_back(steps > 1 ? static_cast<double>(train_steps - 1) / (steps - 1) * i : 0.0);
      break;
    case Spacing::leading:
      for (int i = steps, stride = train_steps / steps; i-- > 0;)
        out.push_back(static_cast<double>(i) * stride + offset);
      break;
    case Spacing::trailing:
      // numpy's arange and round: to the nearest even.
      for (int i = 0; i < steps; ++i)
        out.push_back(std::nearbyint(train_steps - i * (static_cast<double>(train_steps) / steps)) -
                      1);
      break;
  }
  return out;
}

Prediction read_prediction(const Json& config, const std::string& where) {
  struct Field {
    std::string prediction_type = "epsilon";
    void fields(ConfigReader& v) { v.maybe("prediction_type", prediction_type); }
  };
  const auto type = read_fields<Field>(config, where).prediction_type;
  if (type == "epsilon") return Prediction::epsilon;
  if (type == "v_prediction") return Prediction::v;
  if (type == "sample") return Prediction::sample;
  throw Error(
      "{}: 'prediction_type' is '{}', which is not supported; epsilon, v_prediction and sample are",
      where, type);
}

Spacing read_spacing(const Json& config, const std::string& where, Spacing otherwise) {
  struct Field {
    std::string timestep_spacing;
    void fields(ConfigReader& v) { v.maybe("timestep_spacing", timestep_spacing); }
  };
  const auto name = read_fields<Field>(config, where).timestep_spacing;
  if (name.empty()) return otherwise;
  if (name == "linspace") return Spacing::linspace;
  if (name == "leading") return Spacing::leading;
  if (name == "trailing") return Spacing::trailing;
  throw Error(
      "{}: 'timestep_spacing' is '{}', which is not known; linspace, leading and trailing are",
      where, name);
}

std::vector<double> karras_sigmas(double largest, double smallest, int n) {
  constexpr double kRho = 7;
  const double high = std::pow(largest, 1 / kRho), low = std::pow(smallest, 1 / kRho);
  std::vector<double> out;
  for (int i = 0; i < n; ++i) {
    const double ramp = n > 1 ? static_cast<double>(i) / (n - 1) : 0;
    out.push_back(std::pow(high + ramp * (low - high), kRho));
  }
  return out;
}

std::vector<double> exponential_sigmas(double largest, double smallest, int n) {
  const double high = std::log(largest), low = std::log(smallest);
  std::vector<double> out;
  for (int i = 0; i < n; ++i)
    out.push_back(std::exp(high + (n > 1 ? static_cast<double>(i) / (n - 1) : 0) * (low - high)));
  return out;
}

}  // namespace mlxcpp::sd

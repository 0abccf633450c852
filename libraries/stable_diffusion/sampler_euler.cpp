// EulerDiscreteScheduler and EulerAncestralDiscreteScheduler of diffusers. Latents are
// picture + sigma * noise.
#include <algorithm>
#include <cmath>

#include "stable_diffusion/sampler.h"

namespace mlxcpp::sd::detail {
namespace {

struct Settings {
  int steps_offset = 0;
  std::string interpolation_type = "linear", final_sigmas_type = "zero";
  bool use_karras_sigmas = false, use_exponential_sigmas = false;
  std::optional<double> sigma_min, sigma_max;

  void fields(ConfigReader& v) {
    v.maybe("steps_offset", steps_offset);
    v.maybe("interpolation_type", interpolation_type);
    v.maybe("final_sigmas_type", final_sigmas_type);
    v.maybe("use_karras_sigmas", use_karras_sigmas);
    v.maybe("use_exponential_sigmas", use_exponential_sigmas);
    v.maybe("sigma_min", sigma_min);
    v.maybe("sigma_max", sigma_max);
  }
};

class Euler final : public Sampler {
 public:
  Euler(const Json& config, const std::string& where, bool ancestral)
      : Sampler(NoiseSchedule(config, where)),
        prediction_(read_prediction(config, where)),
        spacing_(read_spacing(config, where, Spacing::linspace)),
        ancestral_(ancestral) {
    if (ancestral) {
      struct Offset {
        int steps_offset = 0;
        void fields(ConfigReader& v) { v.maybe("steps_offset", steps_offset); }
      };
      settings_.steps_offset = read_fields<Offset>(config, where).steps_offset;
      if (prediction_ == Prediction::sample)
        throw Error("{}: 'prediction_type' is 'sample', which Euler ancestral has not", where);
      return;
    }
    settings_ = read_fields<Settings>(config, where);
    only(config, where, "use_beta_sigmas", false);
    only(config, where, "timestep_type", "discrete");
    if (settings_.interpolation_type != "linear" && settings_.interpolation_type != "log_linear")
      throw Error("{}: 'interpolation_type' is '{}', which is not known; linear and log_linear are",
                  where, settings_.interpolation_type);
    if (settings_.final_sigmas_type != "zero" && settings_.final_sigmas_type != "sigma_min")
      throw Error("{}: 'final_sigmas_type' is '{}', which is not known; zero and sigma_min are",
                  where, settings_.final_sigmas_type);
    if (settings_.use_karras_sigmas && settings_.use_exponential_sigmas)
      throw Error("{}: 'use_karras_sigmas' and 'use_exponential_sigmas' exclude each other", where);
  }

  double initial_scale() const override {
    return spacing_ == Spacing::leading ? std::sqrt(largest_ * largest_ + 1) : largest_;
  }
  mx::array add_noise(const mx::array& latents, const mx::array& noise) const override {
    return mixed(1, latents, sigmas_[0], noise);
  }
  mx::array model_input(const mx::array& latents, int i) const override {
    return scaled(1 / std::sqrt(sigmas_[i] * sigmas_[i] + 1), latents);
  }
  bool wants_noise(int i) const override { return ancestral_ && sigmas_[i + 1] > 0; }

  Step step(int i, const mx::array& latents, const mx::array& output,
            const std::optional<mx::array>& noise) override {
    const double from = sigmas_[i], to = sigmas_[i + 1];
    const auto picture = predicted(from, latents, output);
    double up = 0, down = to;
    if (ancestral_) {
      up = std::sqrt(to * to * (from * from - to * to) / (from * from));
      down = std::sqrt(std::max(0.0, to * to - up * up));
    }
    // latents + (latents - picture) / from * (down - from)
    const double share = down / from;
    auto next = mixed(share, latents, 1 - share, picture);
    if (up > 0) {
      if (!noise) throw Error("Euler ancestral: step {} needs noise", i);
      next = mixed(1, next, up, *noise);
    }
    return {next, picture};
  }

 private:
  mx::array predicted(double sigma, const mx::array& latents, const mx::array& output) const {
    const double norm = 1 / std::sqrt(sigma * sigma + 1);
    switch (prediction_) {
      case Prediction::epsilon:
        return mixed(1, latents, -sigma, output);
      case Prediction::v:
        return mixed(norm * norm, latents, -sigma * norm, output);
      case Prediction::sample:
        return mx::astype(output, mx::float32);
    }
    return output;
  }

  Plan plan(int steps) override {
    Plan p{spaced_timesteps(spacing_, schedule_.size(), steps, settings_.steps_offset), {}};
    for (double& t : p.timesteps) t = static_cast<float>(t);
    const auto& all = schedule_.sigmas();
    const int n = static_cast<int>(p.timesteps.size());
    if (settings_.interpolation_type == "log_linear") {
      p.sigmas = exponential_sigmas(all.back(), all.front(), n + 1);
    } else {
      for (const double t : p.timesteps) p.sigmas.push_back(schedule_.sigma_at(t));
    }
    if (settings_.use_karras_sigmas || settings_.use_exponential_sigmas) {
      const double high = settings_.sigma_max.value_or(p.sigmas.front());
      const double low = settings_.sigma_min.value_or(p.sigmas.back());
      p.sigmas = settings_.use_karras_sigmas ? karras_sigmas(high, low, n)
                                             : exponential_sigmas(high, low, n);
      p.timesteps.clear();
      for (const double s : p.sigmas)
        p.timesteps.push_back(static_cast<float>(schedule_.timestep_at(s)));
    }
    p.sigmas.push_back(settings_.final_sigmas_type == "zero" ? 0.0 : all.front());
    for (double& s : p.sigmas) s = static_cast<float>(s);
    largest_ = *std::max_element(p.sigmas.begin(), p.sigmas.end());
    return p;
  }

  Prediction prediction_;
  Spacing spacing_;
  bool ancestral_;
  Settings settings_;
  double largest_ = 1;
};

// The sampler of the MLX examples (stable_diffusion/sampler.py): time runs from 1000 to 0 in equal
// parts, sigma lies linearly between the training's, latents are kept at variance 1.
class SimpleEuler final : public Sampler {
 public:
  SimpleEuler(const Json& config, const std::string& where, bool ancestral)
      : Sampler(NoiseSchedule(config, where)),
        prediction_(read_prediction(config, where)),
        ancestral_(ancestral) {}

  double initial_scale() const override { return mixture(0).sigma; }
  mx::array add_noise(const mx::array& latents, const mx::array& noise) const override {
    const Mixture m = mixture(0);
    return mixed(m.alpha, latents, m.sigma, noise);
  }
  bool wants_noise(int i) const override { return ancestral_ && sigmas_[i + 1] > 0; }

  Step step(int i, const mx::array& latents, const mx::array& output,
            const std::optional<mx::array>& noise) override {
    const double from = sigmas_[i], to = sigmas_[i + 1];
    const Mixture now = mixture(i), next = mixture(i + 1);
    double up = 0, down = to;
    if (ancestral_) {
      up = std::sqrt(to * to * (from * from - to * to) / (from * from));
      down = std::sqrt(std::max(0.0, to * to - up * up));
    }
    const auto epsilon = predicted_noise(prediction_, now, latents, output);
    auto y = mixed(1 / now.alpha, latents, down - from, epsilon);
    if (up > 0) {
      if (!noise) throw Error("simple Euler ancestral: step {} needs noise", i);
      y = mixed(1, y, up, *noise);
    }
    return {scaled(next.alpha, y), predicted_picture(prediction_, now, latents, output)};
  }

 private:
  Mixture mixture(int i) const {
    const double alpha = 1 / std::sqrt(sigmas_[i] * sigmas_[i] + 1);
    return {alpha, sigmas_[i] * alpha};
  }
  // Time 0 is no noise, time i + 1 is the training's timestep i.
  double sigma_at_time(double t) const {
    const double first = schedule_.sigmas().front();
    return t < 1 ? t * first : schedule_.sigma_at(t - 1);
  }
  Plan from(double start, int steps) const {
    Plan p;
    for (int i = 0; i <= steps; ++i) {
      const double t = static_cast<float>(start * (steps - i) / steps);
      if (i < steps) p.timesteps.push_back(t);
      p.sigmas.push_back(sigma_at_time(t));
    }
    return p;
  }
  Plan plan(int steps) override { return from(schedule_.size(), steps); }
  Plan plan_part(int steps, double strength) override {
    const int taken = static_cast<int>(steps * strength);
    return taken < 1 ? Plan() : from(schedule_.size() * strength, taken);
  }

  Prediction prediction_;
  bool ancestral_;
};

}  // namespace

std::unique_ptr<Sampler> make_euler(const Json& config, const std::string& where, bool ancestral) {
  return std::make_unique<Euler>(config, where, ancestral);
}

std::unique_ptr<Sampler> make_simple_euler(const Json& config, const std::string& where,
                                           bool ancestral) {
  return std::make_unique<SimpleEuler>(config, where, ancestral);
}

}  // namespace mlxcpp::sd::detail

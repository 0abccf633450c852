// DDIMScheduler (Song et al., arXiv 2010.02502; eta 0) and LCMScheduler (Luo et al., arXiv
// 2310.04378) of diffusers. Latents are kept at variance 1.
#include <cmath>

#include "stable_diffusion/sampler.h"

namespace mlxcpp::sd::detail {
namespace {

struct Settings {
  explicit Settings(bool clips) : clip_sample(clips) {}
  Settings() = default;

  int steps_offset = 0, original_inference_steps = 50;
  bool clip_sample = true, set_alpha_to_one = true;
  double clip_sample_range = 1.0, timestep_scaling = 10.0;

  void fields(ConfigReader& v) {
    v.maybe("steps_offset", steps_offset);
    v.maybe("original_inference_steps", original_inference_steps);
    v.maybe("clip_sample", clip_sample);
    v.maybe("set_alpha_to_one", set_alpha_to_one);
    v.maybe("clip_sample_range", clip_sample_range);
    v.maybe("timestep_scaling", timestep_scaling);
  }
};

Settings read_settings(const Json& config, const std::string& where, bool clips) {
  Settings s(clips);
  ConfigReader reader(config, where);
  s.fields(reader);
  only(config, where, "thresholding", false);
  return s;
}

class DiscreteSampler : public Sampler {
 public:
  mx::array add_noise(const mx::array& latents, const mx::array& noise) const override {
    const Mixture m = mixture(static_cast<int>(timesteps_[0]));
    return mixed(m.alpha, latents, m.sigma, noise);
  }

 protected:
  DiscreteSampler(const Json& config, const std::string& where, bool clips)
      : Sampler(NoiseSchedule(config, where)),
        prediction_(read_prediction(config, where)),
        settings_(read_settings(config, where, clips)) {}

  double alpha_cumprod(int timestep) const {
    if (timestep >= 0) return schedule_.alpha_cumprod(std::min(timestep, schedule_.size() - 1));
    return settings_.set_alpha_to_one ? 1.0 : schedule_.alpha_cumprod(0);
  }
  Mixture mixture(int timestep) const {
    const double a = alpha_cumprod(timestep);
    return {std::sqrt(a), std::sqrt(1 - a)};
  }
  mx::array picture(Mixture m, const mx::array& latents, const mx::array& output) const {
    auto x = predicted_picture(prediction_, m, latents, output);
    if (!settings_.clip_sample) return x;
    const auto range = static_cast<float>(settings_.clip_sample_range);
    return mx::clip(x, mx::array(-range), mx::array(range));
  }
  void check_timesteps(const Plan& p, const std::string& what) const {
    for (const double t : p.timesteps) {
      if (t < 0 || t >= schedule_.size())
        throw Error(
            "{}: timestep {} is outside the {} that the model was trained on; check "
            "'steps_offset'",
            what, t, schedule_.size());
      if (prediction_ == Prediction::epsilon && alpha_cumprod(static_cast<int>(t)) == 0)
        throw Error(
            "{}: timestep {} is noise alone ('rescale_betas_zero_snr'), of which 'prediction_type' "
            "'epsilon' foresees nothing; v_prediction does",
            what, t);
    }
  }

  Prediction prediction_;
  Settings settings_;
};

class Ddim final : public DiscreteSampler {
 public:
  Ddim(const Json& config, const std::string& where)
      : DiscreteSampler(config, where, true),
        spacing_(read_spacing(config, where, Spacing::leading)) {}

  Step step(int i, const mx::array& latents, const mx::array& output,
            const std::optional<mx::array>&) override {
    const int t = static_cast<int>(timesteps_[i]);
    const Mixture now = mixture(t), next = mixture(t - stride_);
    const auto x = picture(now, latents, output);
    const auto noise = predicted_noise(prediction_, now, latents, output);
    return {mixed(next.alpha, x, next.sigma, noise), x};
  }

 private:
  Plan plan(int steps) override {
    stride_ = schedule_.size() / steps;
    Plan p{spaced_timesteps(spacing_, schedule_.size(), steps, settings_.steps_offset), {}};
    for (double& t : p.timesteps) t = std::nearbyint(t);
    check_timesteps(p, "DDIM");
    return p;
  }

  Spacing spacing_;
  int stride_ = 1;
};

class Lcm final : public DiscreteSampler {
 public:
  Lcm(const Json& config, const std::string& where) : DiscreteSampler(config, where, false) {
    if (settings_.original_inference_steps < 1 ||
        settings_.original_inference_steps > schedule_.size())
      throw Error("{}: 'original_inference_steps' must be between 1 and {}, found {}", where,
                  schedule_.size(), settings_.original_inference_steps);
  }

  bool wants_noise(int i) const override { return i + 1 < steps(); }

  Step step(int i, const mx::array& latents, const mx::array& output,
            const std::optional<mx::array>& noise) override {
    constexpr double kSigmaData = 0.5;
    const double scaled_time = timesteps_[i] * settings_.timestep_scaling;
    const double norm = scaled_time * scaled_time + kSigmaData * kSigmaData;
    const auto x = picture(mixture(static_cast<int>(timesteps_[i])), latents, output);
    const auto denoised =
        mixed(scaled_time / std::sqrt(norm), x, kSigmaData * kSigmaData / norm, latents);
    if (!wants_noise(i)) return {denoised, denoised};
    if (!noise) throw Error("LCM: step {} needs noise", i);
    const Mixture next = mixture(static_cast<int>(timesteps_[i + 1]));
    return {mixed(next.alpha, denoised, next.sigma, *noise), denoised};
  }

 private:
  Plan plan(int steps) override {
    const int original = settings_.original_inference_steps;
    if (steps > original)
      throw Error("LCM: at most {} steps ('original_inference_steps'), found {}", original, steps);
    return evenly(steps, original);
  }
  Plan plan_shortened_schedule(int steps, double strength) override {
    const int original = settings_.original_inference_steps;
    const int left = static_cast<int>(original * strength);
    if (steps > left)
      throw Error(
          "LCM: at most {} steps ({} of 'original_inference_steps' times strength {}), found {}",
          left, original, strength, steps);
    return evenly(steps, left);
  }
  // Steps over the last `count` of the original schedule.
  Plan evenly(int steps, int count) const {
    const int stride = schedule_.size() / settings_.original_inference_steps;
    Plan p;
    for (int i = 0; i < steps; ++i) {
      const auto skipped = static_cast<int>(std::floor(static_cast<double>(count) / steps * i));
      p.timesteps.push_back((count - skipped) * stride - 1);
    }
    check_timesteps(p, "LCM");
    return p;
  }
};

}  // namespace

std::unique_ptr<Sampler> make_ddim(const Json& config, const std::string& where) {
  return std::make_unique<Ddim>(config, where);
}

std::unique_ptr<Sampler> make_lcm(const Json& config, const std::string& where) {
  Json with = config;  // the one class whose betas have defaults of their own
  for (const auto& [key, value] : {std::pair<const char*, Json>("beta_start", 0.00085),
                                   {"beta_end", 0.012},
                                   {"beta_schedule", "scaled_linear"}})
    if (!with.contains(key)) with[key] = value;
  return std::make_unique<Lcm>(with, where);
}

}  // namespace mlxcpp::sd::detail

// DPMSolverMultistepScheduler of diffusers: DPM-Solver++ (Lu et al., arXiv 2211.01095), first and
// second order, on evenly spaced, Karras' or exponential sigmas. Latents are kept at variance 1.
#include <algorithm>
#include <cmath>
#include <limits>

#include "stable_diffusion/sampler.h"

namespace mlxcpp::sd::detail {
namespace {

struct Settings {
  int solver_order = 2, steps_offset = 0;
  std::string solver_type = "midpoint", final_sigmas_type = "zero";
  bool lower_order_final = true, euler_at_final = false;
  bool use_karras_sigmas = false, use_exponential_sigmas = false;
  double lambda_min_clipped = -std::numeric_limits<double>::infinity();

  void fields(ConfigReader& v) {
    v.maybe("solver_order", solver_order);
    v.maybe("steps_offset", steps_offset);
    v.maybe("solver_type", solver_type);
    v.maybe("final_sigmas_type", final_sigmas_type);
    v.maybe("lower_order_final", lower_order_final);
    v.maybe("euler_at_final", euler_at_final);
    v.maybe("use_karras_sigmas", use_karras_sigmas);
    v.maybe("use_exponential_sigmas", use_exponential_sigmas);
    // Written as "-Infinity", which is no JSON, or as a string of it.
    if (const auto it = v.json().find("lambda_min_clipped");
        it != v.json().end() && it->is_number())
      lambda_min_clipped = it->get<double>();
  }
};

class DpmSolver final : public Sampler {
 public:
  DpmSolver(const Json& config, const std::string& where, std::optional<bool> karras)
      : Sampler(NoiseSchedule(config, where)),
        prediction_(read_prediction(config, where)),
        spacing_(read_spacing(config, where, Spacing::linspace)),
        settings_(read_fields<Settings>(config, where)) {
    if (karras) settings_.use_karras_sigmas = *karras;
    only(config, where, "thresholding", false);
    only(config, where, "algorithm_type", "dpmsolver++");
    only(config, where, "use_beta_sigmas", false);
    only(config, where, "use_lu_lambdas", false);
    only(config, where, "use_flow_sigmas", false);
    only(config, where, "use_dynamic_shifting", false);
    if (settings_.solver_order != 1 && settings_.solver_order != 2)
      throw Error("{}: 'solver_order' is {}, which is not supported; 1 and 2 are", where,
                  settings_.solver_order);
    if (settings_.solver_type != "midpoint" && settings_.solver_type != "heun")
      throw Error("{}: 'solver_type' is '{}', which is not supported; midpoint and heun are", where,
                  settings_.solver_type);
    if (settings_.final_sigmas_type != "zero" && settings_.final_sigmas_type != "sigma_min")
      throw Error("{}: 'final_sigmas_type' is '{}', which is not known; zero and sigma_min are",
                  where, settings_.final_sigmas_type);
    cosine_ = config.value("beta_schedule", "linear") == "squaredcos_cap_v2";
  }

  mx::array add_noise(const mx::array& latents, const mx::array& noise) const override {
    const Point p = point(0);
    return mixed(p.alpha, latents, p.sigma, noise);
  }

  Step step(int i, const mx::array& latents, const mx::array& output,
            const std::optional<mx::array>&) override {
    const Point s0 = point(i), t = point(i + 1);
    const auto picture = predicted_picture(prediction_, {s0.alpha, s0.sigma}, latents, output);
    // lambda is infinite where no noise is left: there e^-h is 0.
    const double decay = t.sigma == 0 ? 0 : std::exp(-(t.lambda - s0.lambda));
    const double toward = -t.alpha * (decay - 1);
    auto next = mixed(t.sigma / s0.sigma, latents, toward, picture);
    if (settings_.solver_order == 2 && i > 0 && last_ && !lower_order(i)) {
      const Point s1 = point(i - 1);
      const double h = t.lambda - s0.lambda, r0 = (s0.lambda - s1.lambda) / h;
      const double weight =
          settings_.solver_type == "midpoint" ? 0.5 * toward : t.alpha * ((decay - 1) / h + 1);
      // D1 = (picture - last) / r0
      next = next + mixed(weight / r0, picture, -weight / r0, *last_);
    }
    last_ = picture;
    return {next, picture};
  }

 private:
  struct Point {
    double alpha, sigma, lambda;
  };
  Point point(int i) const {
    const double s = sigmas_[i], alpha = 1 / std::sqrt(s * s + 1);
    return {alpha, s * alpha, -std::log(s)};
  }
  bool lower_order(int i) const {
    return i + 1 == steps() &&
           (settings_.euler_at_final || (settings_.lower_order_final && steps() < 15) ||
            settings_.final_sigmas_type == "zero");
  }

  Plan plan(int steps) override {
    const auto& all = schedule_.sigmas();
    // Timesteps whose log(alpha / sigma) is below the bound are left out: noise alone.
    int last = schedule_.size();
    while (last > 1 && -std::log(all[last - 1]) < settings_.lambda_min_clipped) --last;
    Plan p;
    switch (spacing_) {
      case Spacing::linspace:
        for (int i = steps; i > 0; --i)
          p.timesteps.push_back(std::nearbyint(static_cast<double>(last - 1) / steps * i));
        break;
      case Spacing::leading:
        for (int i = steps, stride = last / (steps + 1); i > 0; --i)
          p.timesteps.push_back(static_cast<double>(i) * stride + settings_.steps_offset);
        break;
      case Spacing::trailing: {
        const double stride = static_cast<double>(schedule_.size()) / steps;
        for (int i = 0; last - i * stride > 0 && i < steps; ++i)
          p.timesteps.push_back(std::nearbyint(last - i * stride) - 1);
        break;
      }
    }
    if (settings_.use_karras_sigmas || settings_.use_exponential_sigmas) {
      p.sigmas = settings_.use_karras_sigmas ? karras_sigmas(all.back(), all.front(), steps)
                                             : exponential_sigmas(all.back(), all.front(), steps);
      p.timesteps.clear();
      for (const double s : p.sigmas) {
        const double t = schedule_.timestep_at(s);
        // Whole numbers: rounded for Karras (but not the cosine schedule), else cut.
        p.timesteps.push_back(settings_.use_karras_sigmas && !cosine_ ? std::nearbyint(t)
                                                                      : std::floor(t));
      }
    } else {
      for (const double t : p.timesteps) p.sigmas.push_back(schedule_.sigma_at(t));
    }
    p.sigmas.push_back(settings_.final_sigmas_type == "zero" ? 0.0 : all.front());
    for (double& s : p.sigmas) s = static_cast<float>(s);
    return p;
  }
  void restart() override { last_.reset(); }

  Prediction prediction_;
  Spacing spacing_;
  Settings settings_;
  bool cosine_ = false;
  std::optional<mx::array> last_;  // the picture predicted a step ago
};

}  // namespace

std::unique_ptr<Sampler> make_dpm_solver(const Json& config, const std::string& where,
                                         std::optional<bool> karras) {
  return std::make_unique<DpmSolver>(config, where, karras);
}

}  // namespace mlxcpp::sd::detail

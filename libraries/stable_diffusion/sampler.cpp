#include "stable_diffusion/sampler.h"

#include <algorithm>
#include <cmath>

#include <fmt/ranges.h>

#include "core/log.h"

namespace mlxcpp::sd {

void Sampler::prepare(int steps, double strength, Shortened shortened) {
  if (steps < 1) throw Error("steps: at least 1 is needed, found {}", steps);
  if (steps > schedule_.size())
    throw Error("steps: the model was trained on {} timesteps, found {} steps", schedule_.size(),
                steps);
  if (!(strength > 0 && strength <= 1))
    throw Error("strength: expected above 0 and at most 1, found {}", strength);
  Plan p = shortened == Shortened::schedule ? plan_shortened_schedule(steps, strength)
           : strength < 1                   ? plan_part(steps, strength)
                                            : plan(steps);
  if (p.timesteps.empty())
    throw Error("strength {} of {} steps leaves none; ask for at least {} steps", strength, steps,
                fewest_steps(strength));
  timesteps_ = std::move(p.timesteps);
  sigmas_ = std::move(p.sigmas);
  restart();
}

int fewest_steps(double strength) {
  int n = static_cast<int>(std::min(1e6, std::ceil(1 / strength)));
  if (n * strength < 1 && n < 1000000) ++n;  // 49 * (1 / 49) is below 1
  return n;
}

// As the pipelines' get_timesteps: the last int(steps * strength).
Sampler::Plan Sampler::plan_part(int steps, double strength) {
  Plan p = plan(steps);
  const auto wanted = static_cast<size_t>(static_cast<double>(steps) * strength);
  const size_t skip = p.timesteps.size() - std::min(wanted, p.timesteps.size());
  p.timesteps.erase(p.timesteps.begin(), p.timesteps.begin() + static_cast<ptrdiff_t>(skip));
  if (!p.sigmas.empty())
    p.sigmas.erase(p.sigmas.begin(), p.sigmas.begin() + static_cast<ptrdiff_t>(skip));
  return p;
}

Sampler::Plan Sampler::plan_shortened_schedule(int, double) {
  throw Error("only LCM has a schedule that the strength shortens");
}

mx::array Sampler::initial_latents(const mx::array& noise) const {
  return detail::scaled(initial_scale(), noise);
}

mx::array Sampler::model_input(const mx::array& latents, int) const { return latents; }

bool Sampler::wants_noise(int) const { return false; }

namespace detail {

mx::array scaled(double a, const mx::array& x) {
  const auto f32 = mx::astype(x, mx::float32);
  return a == 1 ? f32 : mx::array(static_cast<float>(a)) * f32;
}

mx::array mixed(double a, const mx::array& x, double b, const mx::array& y) {
  return scaled(a, x) + mx::array(static_cast<float>(b)) * mx::astype(y, mx::float32);
}

void only(const Json& config, const std::string& where, const char* key, const Json& value) {
  const auto it = config.find(key);
  if (it != config.end() && !it->is_null() && *it != value)
    throw Error("{}: '{}' is {}, which is not supported; only {} is", where, key, it->dump(),
                value.dump());
}

mx::array predicted_picture(Prediction p, Mixture m, const mx::array& latents,
                            const mx::array& output) {
  switch (p) {
    case Prediction::epsilon:
      return mixed(1 / m.alpha, latents, -m.sigma / m.alpha, output);
    case Prediction::v:
      return mixed(m.alpha, latents, -m.sigma, output);
    case Prediction::sample:
      return mx::astype(output, mx::float32);
  }
  return output;
}

mx::array predicted_noise(Prediction p, Mixture m, const mx::array& latents,
                          const mx::array& output) {
  switch (p) {
    case Prediction::epsilon:
      return mx::astype(output, mx::float32);
    case Prediction::v:
      return mixed(m.sigma, latents, m.alpha, output);
    case Prediction::sample:
      return mixed(1 / m.sigma, latents, -m.alpha / m.sigma, output);
  }
  return output;
}

}  // namespace detail

namespace {

using Make = std::unique_ptr<Sampler> (*)(const Json& config, const std::string& where);

struct Row {
  const char* name;
  Make make;
};

const Row kSamplers[] = {
    {"euler", [](const Json& c, const std::string& w) { return detail::make_euler(c, w, false); }},
    {"euler-ancestral",
     [](const Json& c, const std::string& w) { return detail::make_euler(c, w, true); }},
    {"ddim", detail::make_ddim},
    {"dpm++2m",
     [](const Json& c, const std::string& w) { return detail::make_dpm_solver(c, w, {}); }},
    {"dpm++2m-karras",
     [](const Json& c, const std::string& w) { return detail::make_dpm_solver(c, w, true); }},
    {"lcm", detail::make_lcm},
    {"simple-euler",
     [](const Json& c, const std::string& w) { return detail::make_simple_euler(c, w, false); }},
    {"simple-euler-ancestral",
     [](const Json& c, const std::string& w) { return detail::make_simple_euler(c, w, true); }},
};

}  // namespace

const std::vector<std::string>& sampler_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> out;
    for (const Row& row : kSamplers) out.emplace_back(row.name);
    return out;
  }();
  return names;
}

std::unique_ptr<Sampler> make_sampler(const std::string& name, const Json& config,
                                      const std::string& where) {
  for (const Row& row : kSamplers)
    if (name == row.name) return row.make(config, where);
  throw Error("sampler '{}' is not known; there are: {}", name, fmt::join(sampler_names(), " "));
}

std::string sampler_of_config(const Json& config, const std::string& where) {
  struct Field {
    std::string class_name;
    void fields(ConfigReader& v) { v.need("_class_name", class_name); }
  };
  const std::string name = read_fields<Field>(config, where).class_name;
  if (name == "EulerDiscreteScheduler") return "euler";
  if (name == "EulerAncestralDiscreteScheduler") return "euler-ancestral";
  if (name == "DDIMScheduler") return "ddim";
  if (name == "DPMSolverMultistepScheduler") return "dpm++2m";
  if (name == "LCMScheduler") return "lcm";
  if (name == "PNDMScheduler") return "euler";  // with its betas
  throw Error(
      "{}: scheduler '{}' is not supported; EulerDiscreteScheduler, "
      "EulerAncestralDiscreteScheduler, "
      "DDIMScheduler, DPMSolverMultistepScheduler, LCMScheduler and PNDMScheduler (as Euler) are; "
      "or name a sampler",
      where, name);
}

}  // namespace mlxcpp::sd

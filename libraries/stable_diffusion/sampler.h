// Samplers: from noise to a picture's latents, one call of the UNet a step. Equal to diffusers'
// schedulers step by step; and the pair of the MLX examples. Latents are f32 [N, H, W, C] whatever
// the UNet computes in; all numbers of a schedule are worked out on the host.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <mlx/mlx.h>

#include "stable_diffusion/noise_schedule.h"

namespace mlxcpp::sd {

namespace mx = mlx::core;

// What a strength below 1 takes away.
enum class Shortened {
  steps,     // the first of them: int(steps * strength) are taken (StableDiffusionImg2ImgPipeline)
  schedule,  // the noisiest part of LCM's original schedule, over the rest of which all steps are
             // taken (LatentConsistencyModelImg2ImgPipeline)
};

class Sampler {
 public:
  virtual ~Sampler() = default;

  // Chooses the timesteps, and forgets what earlier steps left. strength, in (0, 1], is the share
  // of the way that is gone: below 1 the latents start from a picture (add_noise). An Error when no
  // step would be left, or there are more than the model was trained on.
  void prepare(int steps, double strength = 1.0, Shortened shortened = Shortened::steps);

  int steps() const { return static_cast<int>(timesteps_.size()); }    // that will be taken
  const std::vector<double>& timesteps() const { return timesteps_; }  // what the UNet is told
  // One more than timesteps; empty for samplers that have none (DDIM, LCM).
  const std::vector<double>& sigmas() const { return sigmas_; }

  // What unit noise is multiplied by at the start.
  virtual double initial_scale() const { return 1.0; }
  mx::array initial_latents(const mx::array& noise) const;
  // The start from a picture: its latents with the noise of the first step.
  virtual mx::array add_noise(const mx::array& latents, const mx::array& noise) const = 0;
  // What the UNet gets of step i's latents.
  virtual mx::array model_input(const mx::array& latents, int i) const;
  // Whether step i needs fresh unit noise.
  virtual bool wants_noise(int i) const;

  struct Step {
    mx::array latents;    // after the step
    mx::array predicted;  // the picture that the UNet aims at from here, for previews
  };
  // Steps are taken in order, 0 to steps() - 1; output is the UNet's.
  virtual Step step(int i, const mx::array& latents, const mx::array& output,
                    const std::optional<mx::array>& noise) = 0;

 protected:
  explicit Sampler(NoiseSchedule schedule) : schedule_(std::move(schedule)) {}

  struct Plan {
    std::vector<double> timesteps, sigmas;
  };
  // The whole way; prepare() takes what `strength` leaves of it.
  virtual Plan plan(int steps) = 0;
  virtual Plan plan_part(int steps, double strength);
  virtual Plan plan_shortened_schedule(int steps, double strength);
  virtual void restart() {}

  NoiseSchedule schedule_;
  std::vector<double> timesteps_, sigmas_;
};

// The fewest steps of which that strength leaves one (10^6 where it would be more).
int fewest_steps(double strength);

// By name: "euler", "euler-ancestral", "ddim", "dpm++2m", "dpm++2m-karras", "lcm", "simple-euler",
// "simple-euler-ancestral". `config` is a scheduler_config.json; fields that the sampler has not
// are left aside, as diffusers' from_config does; those that it has and this library has not are an
// Error.
std::unique_ptr<Sampler> make_sampler(const std::string& name, const Json& config,
                                      const std::string& where = "scheduler_config.json");
const std::vector<std::string>& sampler_names();

// The sampler that a scheduler_config.json asks for by its "_class_name". PNDM is run as Euler, and
// the log says so.
std::string sampler_of_config(const Json& config,
                              const std::string& where = "scheduler_config.json");

namespace detail {  // one each file; make_sampler calls them
std::unique_ptr<Sampler> make_euler(const Json& config, const std::string& where, bool ancestral);
std::unique_ptr<Sampler> make_simple_euler(const Json& config, const std::string& where,
                                           bool ancestral);
std::unique_ptr<Sampler> make_ddim(const Json& config, const std::string& where);
std::unique_ptr<Sampler> make_dpm_solver(const Json& config, const std::string& where,
                                         std::optional<bool> karras);
std::unique_ptr<Sampler> make_lcm(const Json& config, const std::string& where);

// a * x, and a * x + b * y, in f32.
mx::array scaled(double a, const mx::array& x);
mx::array mixed(double a, const mx::array& x, double b, const mx::array& y);

// Fields that only one value of is supported.
void only(const Json& config, const std::string& where, const char* key, const Json& value);

// The share of picture and noise in latents of variance 1 (alpha^2 + sigma^2 = 1), and the picture
// that the output stands for.
struct Mixture {
  double alpha, sigma;
};
mx::array predicted_picture(Prediction p, Mixture m, const mx::array& latents,
                            const mx::array& output);
mx::array predicted_noise(Prediction p, Mixture m, const mx::array& latents,
                          const mx::array& output);
}  // namespace detail

}  // namespace mlxcpp::sd

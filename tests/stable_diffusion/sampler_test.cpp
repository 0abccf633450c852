// Every sampler, spacing, prediction and setting against diffusers, step by step
// (tests/scripts/make_sd_goldens.py).
#include "stable_diffusion/sampler.h"

#include <algorithm>
#include <cmath>

#include "support/throws.h"
#include "tests/support/paths.h"
#include "weights/safetensors.h"

namespace mlxcpp::sd {
namespace {

using test::error_of;
using ::testing::HasSubstr;

const Json kScaled = {
    {"beta_start", 0.00085}, {"beta_end", 0.012}, {"beta_schedule", "scaled_linear"}};

double largest(const mx::array& x) {
  return mx::max(mx::abs(mx::astype(x, mx::float32))).item<float>();
}

struct SamplerCase {
  std::string name, sampler;
  Json config;
  int steps = 0;
  double strength = 1;
  bool all_steps = false;
  void fields(ConfigReader& v) {
    v.need("name", name);
    v.need("sampler", sampler);
    v.need("config", config);
    v.need("steps", steps);
    v.need("strength", strength);
    v.maybe("all_steps", all_steps);
  }
};

TEST(Sampler, EqualsDiffusersStepByStep) {
  const std::filesystem::path folder = mlxcpp::test::golden_folder() / "sd_samplers";
  const auto tensors = read_safetensors(folder / "samplers.safetensors").tensors;
  const auto outputs = tensors.at("outputs"), step_noise = tensors.at("step_noise");
  const auto at = [](const mx::array& a, int i) { return mx::take(a, i, 0); };
  int compared = 0;
  for (const Json& json : read_json(folder / "samplers.json")) {
    const auto c = read_config<SamplerCase>(json, "samplers.json");
    SCOPED_TRACE(c.name);
    const auto sampler = make_sampler(c.sampler, c.config);
    sampler->prepare(c.steps, c.strength, c.all_steps ? Shortened::schedule : Shortened::steps);

    const auto& timesteps = tensors.at(c.name + "/timesteps");
    ASSERT_EQ(sampler->steps(), timesteps.shape(0));
    for (int i = 0; i < sampler->steps(); ++i)
      EXPECT_NEAR(sampler->timesteps()[i], timesteps.data<float>()[i], 2e-3) << i;

    // The reference is in f32: each of its steps rounds what the last one left.
    const auto& states = tensors.at(c.name + "/states");
    const double bound = 2e-5 * std::max(1.0, largest(states));
    auto x = c.strength < 1 ? sampler->add_noise(tensors.at("picture"), tensors.at("noise"))
                            : sampler->initial_latents(tensors.at("noise"));
    EXPECT_LE(largest(x - at(states, 0)), bound) << "start";
    int noises = 0;  // drawn one after the other, by the steps that want one
    for (int i = 0; i < sampler->steps(); ++i) {
      const auto seen = sampler->model_input(x, i);
      std::optional<mx::array> noise;
      if (sampler->wants_noise(i)) noise = at(step_noise, noises++);
      x = sampler->step(i, x, at(outputs, i) + mx::array(0.5f) * seen, noise).latents;
      EXPECT_LE(largest(x - at(states, i + 1)), bound) << "step " << i;
    }
    ++compared;
  }
  EXPECT_GE(compared, 150);
}

TEST(Sampler, TheSameWhenUsedAgain) {
  for (const std::string& name : sampler_names()) {
    const auto sampler = make_sampler(name, kScaled);
    const auto noise = mx::reshape(mx::arange(24, mx::float32), {1, 2, 3, 4}) * mx::array(0.1f);
    const auto run = [&] {
      sampler->prepare(4);
      auto x = sampler->initial_latents(noise);
      for (int i = 0; i < 4; ++i)
        x = sampler
                ->step(i, x, mx::sin(x),
                       sampler->wants_noise(i) ? std::optional(noise) : std::nullopt)
                .latents;
      return x;
    };
    const auto first = run();
    sampler->prepare(7);
    EXPECT_TRUE(mx::array_equal(first, run()).item<bool>()) << name;
  }
}

// What the UNet would have to say of a known picture gives that picture back.
TEST(Sampler, AllReachThePictureThatTheModelSees) {
  const auto picture = mx::reshape(mx::sin(mx::arange(24, mx::float32)), {1, 2, 3, 4});
  const auto noise = mx::cos(mx::reshape(mx::arange(24, mx::float32), {1, 2, 3, 4}));
  for (const std::string& name : sampler_names()) {
    Json config = kScaled;
    config["clip_sample"] = false;
    const auto sampler = make_sampler(name, config);
    sampler->prepare(6);
    auto x = sampler->initial_latents(noise);
    const NoiseSchedule schedule(config, "test");
    for (int i = 0; i < sampler->steps(); ++i) {
      // epsilon of the mixture that the UNet is shown: variance 1
      double sigma = 0, alpha = 0;
      if (sampler->sigmas().empty()) {
        const double a = schedule.alpha_cumprod(static_cast<int>(sampler->timesteps()[i]));
        alpha = std::sqrt(a), sigma = std::sqrt(1 - a);
      } else {
        const double s = sampler->sigmas()[i];
        alpha = 1 / std::sqrt(s * s + 1), sigma = s * alpha;
      }
      const auto seen = sampler->model_input(x, i);
      const auto epsilon = (seen - mx::array(static_cast<float>(alpha)) * picture) *
                           mx::array(static_cast<float>(1 / sigma));
      const auto step = sampler->step(
          i, x, epsilon, sampler->wants_noise(i) ? std::optional(noise) : std::nullopt);
      if (name != "lcm") {  // which mixes what it foresees with the latents
        EXPECT_LE(largest(step.predicted - picture), 2e-3) << name << " " << i;
      }
      x = step.latents;
    }
    EXPECT_LE(largest(x - picture), 0.15) << name;  // DDIM and LCM stop at the first timestep
  }
}

// When diffusers' LCMScheduler.set_timesteps(steps, strength=...) raises a ValueError.
TEST(Sampler, LcmTakesNoMoreStepsThanTheStrengthLeavesOfItsSchedule) {
  const auto error = [](int steps, double strength, int original) {
    const auto sampler = make_sampler("lcm", {{"original_inference_steps", original}});
    return error_of([&] { sampler->prepare(steps, strength, Shortened::schedule); });
  };
  const auto taken = [](int steps, double strength, int original) {
    const auto sampler = make_sampler("lcm", {{"original_inference_steps", original}});
    sampler->prepare(steps, strength, Shortened::schedule);
    return sampler->steps();
  };
  EXPECT_EQ(taken(50, 1, 50), 50);
  EXPECT_EQ(taken(4, 0.08, 50), 4);
  EXPECT_EQ(taken(14, 0.29, 50), 14) << "50 * 0.29 is 14.499999999999998";
  EXPECT_EQ(taken(1, 0.02, 50), 1);
  EXPECT_THAT(error(51, 1, 50), HasSubstr("at most 50 steps"));
  EXPECT_THAT(error(5, 0.08, 50), HasSubstr("at most 4 steps"));
  EXPECT_THAT(error(15, 0.29, 50), HasSubstr("at most 14 steps (50 of"));
  EXPECT_THAT(error(1, 0.01, 50), HasSubstr("at most 0 steps"));
  EXPECT_THAT(error(7, 0.349, 20), HasSubstr("at most 6 steps"));
  EXPECT_THAT(error_of([] { make_sampler("ddim", kScaled)->prepare(4, 0.5, Shortened::schedule); }),
              HasSubstr("only LCM"));
}

TEST(Sampler, OfSchedulerConfigurations) {
  EXPECT_EQ(sampler_of_config({{"_class_name", "DDIMScheduler"}}), "ddim");
  EXPECT_EQ(sampler_of_config({{"_class_name", "LCMScheduler"}}), "lcm");
  EXPECT_EQ(sampler_of_config({{"_class_name", "PNDMScheduler"}}), "euler");
  EXPECT_EQ(sampler_of_config({{"_class_name", "DPMSolverMultistepScheduler"}}), "dpm++2m");
  EXPECT_EQ(sampler_of_config({{"_class_name", "EulerAncestralDiscreteScheduler"}}),
            "euler-ancestral");
  EXPECT_THAT(error_of([] { sampler_of_config({{"_class_name", "HeunDiscreteScheduler"}}); }),
              HasSubstr("HeunDiscreteScheduler"));
}

TEST(Sampler, Errors) {
  const auto error = [](const std::string& name, const Json& config, int steps = 4,
                        double strength = 1) {
    return error_of([&] { make_sampler(name, config)->prepare(steps, strength); });
  };
  EXPECT_THAT(error("plms", Json::object()),
              HasSubstr("sampler 'plms' is not known; there are: euler"));
  for (const std::string& name : sampler_names()) {
    EXPECT_THAT(error(name, Json::object(), 0), HasSubstr("at least 1")) << name;
    EXPECT_THAT(error(name, Json::object(), 1001), HasSubstr("1000 timesteps")) << name;
    EXPECT_THAT(error(name, Json::object(), 4, 0), HasSubstr("strength")) << name;
    EXPECT_THAT(error(name, Json::object(), 4, 1.5), HasSubstr("strength")) << name;
    EXPECT_THAT(error(name, Json::object(), 4, NAN), HasSubstr("strength")) << name;
    EXPECT_THAT(error(name, Json::object(), 4, 0.1), HasSubstr("at least 10 steps")) << name;
    EXPECT_THAT(error(name, {{"prediction_type", "flow"}}), HasSubstr("'prediction_type'"));
    EXPECT_THAT(error(name, {{"beta_schedule", "sigmoid"}}), HasSubstr("'beta_schedule'"));
    EXPECT_THAT(error(name, {{"num_train_timesteps", 1}}), HasSubstr("'num_train_timesteps'"));
    EXPECT_THAT(error(name, {{"beta_end", 2.0}}), HasSubstr("betas"));
  }
  EXPECT_THAT(error("euler", {{"use_beta_sigmas", true}}), HasSubstr("'use_beta_sigmas'"));
  EXPECT_THAT(error("euler", {{"timestep_spacing", "random"}}), HasSubstr("'timestep_spacing'"));
  EXPECT_THAT(error("ddim", {{"thresholding", true}}), HasSubstr("'thresholding'"));
  EXPECT_THAT(error("dpm++2m", {{"algorithm_type", "sde-dpmsolver++"}}),
              HasSubstr("'algorithm_type'"));
  EXPECT_THAT(error("dpm++2m", {{"solver_order", 3}}), HasSubstr("'solver_order'"));
  EXPECT_THAT(error("lcm", Json::object(), 51), HasSubstr("'original_inference_steps'"));
  EXPECT_THAT(error("ddim", {{"rescale_betas_zero_snr", true}, {"timestep_spacing", "trailing"}}),
              HasSubstr("noise alone"));
  EXPECT_THAT(error("euler", {{"trained_betas", {0.1, 0.2, 0.3}}}), HasSubstr("'trained_betas'"));
  EXPECT_THAT(error("euler-ancestral", {{"prediction_type", "sample"}}), HasSubstr("sample"));
}

}  // namespace
}  // namespace mlxcpp::sd

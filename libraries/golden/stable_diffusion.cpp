// golden/sd: token ids, text encoders, one step of the UNet with its blocks, the autoencoder both
// ways, schedules, and whole runs. Pictures and latents of the fixtures are channels first.
#include <regex>

#include "golden/kinds.h"
#include "stable_diffusion/pipeline.h"
#include "weights/safetensors.h"

namespace mlxcpp::golden {
namespace {

mx::array channels_last(const mx::array& x) { return mx::transpose(x, {0, 2, 3, 1}); }
mx::array channels_first(const mx::array& x) { return mx::transpose(x, {0, 3, 1, 2}); }

// "tolerance" of golden.json; each is absolute, `latents` and `sigmas` of the largest value.
struct Bounds {
  double text = 0, unet = 0, vae = 0, latents = 0, sigmas = 0;
  void fields(ConfigReader& v) {
    v.need("text_max_abs", text);
    v.need("unet_max_abs", unet);
    v.need("vae_max_abs", vae);
    v.need("latents_rel", latents);
    v.need("sigmas_rel", sigmas);
  }
};

struct Run {
  const fs::path& folder;
  Json info;
  References want;
  Bounds bounds;
  sd::ModelSource source;
  Comparison& out;

  std::vector<std::shared_ptr<sd::ClipTextModel>> text;
  std::shared_ptr<sd::UNet> unet;
  std::shared_ptr<sd::Autoencoder> vae;
  std::map<std::string, sd::Conditioning> conditions;  // "cond", "uncond"

  const Json& pipeline_case() const {
    for (const Json& c : info.at("cases"))
      if (c.value("name", "") == "pipeline") return c;
    throw Error("{}: no case 'pipeline'", folder.string());
  }

  void near(const std::string& name, const mx::array& got, const mx::array& ref, double bound) {
    out.tensor(name, got, ref, Tolerance{.abs = bound});
  }
  void near(const std::string& name, const mx::array& got, double bound) {
    near(name, got, want.at(name), bound);
  }
  // The bound is a share of the reference's largest value.
  void near_latents(const std::string& name, const mx::array& got) {
    const mx::array& ref = want.at(name);
    near(name, channels_first(got), ref,
         bounds.latents * std::max(1.0, static_cast<double>(mx::max(mx::abs(ref)).item<float>())));
  }
};

mx::array numbers(const std::vector<double>& values) {
  const std::vector<float> floats(values.begin(), values.end());
  return mx::array(floats.data(), {static_cast<int>(floats.size())}, mx::float32);
}

void compare_text(Run& r) {
  const Json& c = r.pipeline_case();
  const std::string prompt = c.at("prompt").get<std::string>();
  const auto check_ids = [&](const std::string& name, const std::string& text, int encoder) {
    const sd::PromptTokenizer tokenizer(r.source.tokenizer_folder(encoder));
    const auto& ref = r.want.at(name);
    const auto got = sd::ids_array(tokenizer.encode(text, ref.shape(1)));
    r.out.check(name, mx::array_equal(got, ref).item<bool>(), "the ids differ");
    return ref;
  };
  if (r.source.is_xl()) {
    std::vector<std::vector<int>> ids;
    std::vector<const sd::ClipTextModel*> encoders;
    for (int i = 0; i < 2; ++i) {
      const auto ref = check_ids(fmt::format("ids{}", i + 1), prompt, i);
      const auto states = (*r.text[i])(ref).hidden_states;
      r.near(fmt::format("text{}.penultimate", i + 1), states[states.size() - 2], r.bounds.text);
      ids.emplace_back(ref.data<int>(), ref.data<int>() + ref.size());
      encoders.push_back(r.text[i].get());
    }
    auto condition = sd::condition(encoders, ids);
    r.near("prompt_embeds", condition.states, r.bounds.text);
    r.near("pooled", *condition.pooled, r.bounds.text);
    condition = {r.want.at("prompt_embeds"), r.want.at("pooled"), r.want.at("add_time_ids")};
    r.conditions.emplace("cond", condition);
    return;
  }
  for (const std::string name : {"cond", "uncond"}) {
    const auto ids = check_ids(
        "ids." + name, name == "cond" ? prompt : c.value("negative_prompt", std::string()), 0);
    const auto got = (*r.text[0])(ids);
    for (size_t i = 0; i < got.hidden_states.size(); ++i) {
      const std::string state = fmt::format("text.{}.hidden{}", name, i);
      if (!r.want.has(state)) continue;
      const auto& ref = r.want.at(state);
      r.near(state, mx::slice(got.hidden_states[i], {0, 0, 0}, {1, ref.shape(1), ref.shape(2)}),
             ref, r.bounds.text);
    }
    const std::string front = "text." + name;
    r.near(front + ".last_hidden_state", got.last_hidden_state, r.bounds.text);
    r.near(front + ".pooler_output", got.pooled, r.bounds.text);
    r.conditions.emplace(name, sd::Conditioning{r.want.at(front + ".last_hidden_state"),
                                                std::nullopt, std::nullopt});
  }
  for (const Json& other : r.info.at("cases"))
    if (other.contains("odd")) check_ids("ids.odd", other.at("odd").get<std::string>(), 0);
}

void compare_unet(Run& r) {
  auto condition = r.conditions.at("cond");
  if (r.want.has("unet.encoder_hidden_states"))
    condition.states = r.want.at("unet.encoder_hidden_states");
  const auto latent = channels_last(r.want.at("unet.latent"));
  const auto timestep = r.want.at("unet.timestep");
  std::map<std::string, mx::array> seen;  // by the module's path
  const auto paths = r.unet->paths();
  mx::array output = latent;
  {
    const nn::ObserverScope scope([&](const nn::Module& m, const mx::array& y) {
      if (const auto it = paths.find(&m); it != paths.end()) seen.insert_or_assign(it->second, y);
    });
    output = (*r.unet)(latent, timestep, condition);
  }
  const auto block = [&](const std::string& name, const std::string& path) {
    if (!r.want.has(name)) return;
    const auto& got = seen.at(path);
    r.near(name, got.ndim() == 4 ? channels_first(got) : got, r.bounds.unet);
  };
  block("unet.time_embedding", "time_embedding");
  block("unet.add_embedding", "add_embedding");
  block("unet.conv_in", "conv_in");
  const int blocks = static_cast<int>(r.source.unet_config().block_out_channels.size());
  for (int i = 0; i < blocks; ++i)
    block(fmt::format("unet.down{}", i), fmt::format("down_blocks.{}", i));
  block("unet.mid_block", "mid_block");
  for (int i = 0; i < blocks; ++i)
    block(fmt::format("unet.up{}", i), fmt::format("up_blocks.{}", i));
  r.near("unet.output", channels_first(output), r.bounds.unet);
  if (r.want.has("unet.output_frac_timestep"))
    r.near("unet.output_frac_timestep",
           channels_first((*r.unet)(latent, mx::array(333.5f), condition)), r.bounds.unet);
}

void compare_vae(Run& r) {
  const auto posterior = r.vae->encode(channels_last(r.want.at("vae.image")));
  r.near("vae.encode_mean", channels_first(posterior.mean), r.bounds.vae);
  r.near("vae.encode_logvar", channels_first(posterior.logvar), r.bounds.vae);
  const auto latent = channels_last(r.want.at("vae.latent"));
  r.near("vae.decode", channels_first(r.vae->decode_scaled(latent)), r.bounds.vae);
  if (r.want.has("vae.decode_tiled")) {
    const sd::Tiling tiling{.edge = r.info.at("tile").get<int>()};
    r.near("vae.decode_tiled", channels_first(r.vae->decode_scaled(latent, tiling)), r.bounds.vae);
  }
}

// The scheduler_config that the fixtures' schedules were made with.
Json schedule_config(const Run& r, const std::string& spacing) {
  Json c = {{"beta_start", 0.00085},
            {"beta_end", 0.012},
            {"beta_schedule", "scaled_linear"},
            {"num_train_timesteps", 1000},
            {"prediction_type", r.source.scheduler().value("prediction_type", "epsilon")},
            {"timestep_spacing", spacing}};
  if (spacing == "leading") c["steps_offset"] = 1;
  return c;
}

void compare_schedules(Run& r) {
  if (r.want.has("sched.alphas_cumprod")) {
    const sd::NoiseSchedule schedule(schedule_config(r, "trailing"), "fixture");
    std::vector<double> all;
    for (int i = 0; i < schedule.size(); ++i) all.push_back(schedule.alpha_cumprod(i));
    r.near("sched.alphas_cumprod", numbers(all), r.bounds.sigmas);
  }
  for (const std::string& name : r.want.names()) {
    // sched.SAMPLER.SPACING.STEPS.sigmas, or sched.mlx_euler.STEPS.sigmas
    std::vector<std::string> part;
    for (size_t begin = 0; begin <= name.size();) {
      const size_t end = std::min(name.find('.', begin), name.size());
      part.push_back(name.substr(begin, end - begin));
      begin = end + 1;
    }
    if (part[0] != "sched" || part.back() != "sigmas" || part.size() < 4) continue;
    const bool simple = part[1] == "mlx_euler";
    const std::string spacing = simple ? "trailing" : part[2];
    const int steps = std::stoi(part[part.size() - 2]);
    const auto sampler = sd::make_sampler(simple               ? "simple-euler"
                                          : part[1] == "euler" ? "euler"
                                                               : "euler-ancestral",
                                          schedule_config(r, spacing));
    sampler->prepare(steps);
    const std::string front = name.substr(0, name.size() - 6);
    auto timesteps = sampler->timesteps();
    if (simple) timesteps.push_back(0);
    const auto largest = [](const mx::array& a) {
      return static_cast<double>(mx::max(mx::abs(a)).item<float>());
    };
    r.near(front + "timesteps", numbers(timesteps),
           r.bounds.sigmas * largest(r.want.at(front + "timesteps")));
    r.near(name, numbers(sampler->sigmas()), r.bounds.sigmas * largest(r.want.at(name)));
    if (r.want.has(front + "init_noise_sigma"))
      r.near(front + "init_noise_sigma", numbers({sampler->initial_scale()}),
             r.bounds.sigmas * sampler->initial_scale());
  }
}

// The fixture's folder; or its single file, whose configurations lie beside it.
sd::ModelSource open_source(const fs::path& folder, const Json& info) {
  const auto file = info.find("single_file");
  return file == info.end() ? sd::ModelSource(folder)
                            : sd::ModelSource(folder / file->get<std::string>(), folder);
}

// A whole run, each step compared as PREFIX.0, PREFIX.1, ...; the last latents.
mx::array compare_run(Run& r, const std::string& prefix, sd::Sampler& sampler, mx::array latents,
                      std::optional<float> cfg) {
  r.near_latents(prefix + ".0", latents);
  for (int i = 0; i < sampler.steps(); ++i) {
    const auto x = sampler.model_input(latents, i);
    const auto t = mx::array(static_cast<float>(sampler.timesteps()[i]));
    auto output = (*r.unet)(x, t, r.conditions.at("cond"));
    if (cfg) {
      const auto without = (*r.unet)(x, t, r.conditions.at("uncond"));
      output = without + mx::array(*cfg) * (output - without);
    }
    std::optional<mx::array> noise;
    if (sampler.wants_noise(i)) noise = channels_last(mx::take(r.want.at("traj.step_noise"), i, 0));
    latents = sampler.step(i, latents, output, noise).latents;
    r.near_latents(fmt::format("{}.{}", prefix, i + 1), latents);
  }
  return latents;
}

void compare_runs(Run& r) {
  const auto noise = channels_last(r.want.at("traj.noise"));
  const auto make = [&](const std::string& name, int steps, double strength = 1.0) {
    auto sampler = sd::make_sampler(name, schedule_config(r, "trailing"));
    sampler->prepare(steps, strength);
    return sampler;
  };
  const float cfg = r.pipeline_case().at("cfg").get<float>();
  const int steps = r.pipeline_case().value("steps", 4);
  for (const auto& [tag, guidance] :
       {std::pair("nocfg", std::optional<float>()), std::pair("cfg", std::optional(cfg))})
    for (const auto& [kind, name] :
         {std::pair("traj", "euler"), std::pair("mlx", "simple-euler")}) {
      const std::string prefix = fmt::format("{}.{}", kind, tag);
      if (!r.want.has(prefix + ".0")) continue;
      const auto sampler = make(name, steps);
      const auto last = compare_run(r, prefix, *sampler, sampler->initial_latents(noise), guidance);
      if (r.want.has(prefix + ".image")) {
        const auto image = mx::clip(r.vae->decode_scaled(last) * mx::array(0.5f) + mx::array(0.5f),
                                    mx::array(0.0f), mx::array(1.0f));
        r.near(prefix + ".image", channels_first(image), r.bounds.vae);
      }
    }
  for (const std::string& first : r.want.names()) {  // KIND.SAMPLERn.0: a run of n steps
    static const std::regex form(R"(((?:traj|mlx)\.euler(?:_a)?)(\d+)\.0)");
    static const std::map<std::string, const char*> kNames = {
        {"traj.euler", "euler"},
        {"traj.euler_a", "euler-ancestral"},
        {"mlx.euler", "simple-euler"},
        {"mlx.euler_a", "simple-euler-ancestral"}};
    std::smatch m;
    if (!std::regex_match(first, m, form)) continue;
    const auto sampler = make(kNames.at(m[1]), std::stoi(m[2]));
    compare_run(r, first.substr(0, first.size() - 2), *sampler, sampler->initial_latents(noise),
                std::nullopt);
  }
  if (r.want.has("img2img.init_latent")) {
    const auto picture = r.vae->encode_scaled(channels_last(r.want.at("vae.image")));
    r.near("img2img.init_latent", channels_first(picture), r.bounds.vae);
    // The last steps; by half a step more, the product is rounded down to their number.
    const auto last = static_cast<double>(r.want.at("img2img.timesteps").size());
    const auto sampler = make("euler", steps, std::min(1.0, (last + 0.5) / steps));
    r.near("img2img.timesteps", numbers(sampler->timesteps()), r.bounds.sigmas);
    compare_run(r, "img2img", *sampler, sampler->add_noise(picture, noise), cfg);
  }
}

}  // namespace

void compare_stable_diffusion(const fs::path& folder, const Options&, Comparison& out) {
  const Json info = read_json(folder / "golden.json");
  Run r{folder,
        info,
        References(folder / "golden.safetensors"),
        read_fields<Bounds>(info.at("tolerance"), (folder / "golden.json").string()),
        open_source(folder, info),
        out,
        {},
        nullptr,
        nullptr,
        {}};
  for (int i = 0; i < r.source.text_encoders(); ++i)
    r.text.push_back(r.source.load_text_encoder(i, mx::float32));
  r.unet = r.source.load_unet(mx::float32);
  r.vae = r.source.load_autoencoder(mx::float32);
  compare_text(r);
  compare_unet(r);
  compare_vae(r);
  compare_schedules(r);
  compare_runs(r);
  for (const auto& name : r.want.unused())
    out.check(name, false, "in golden.safetensors, but not compared");
}

}  // namespace mlxcpp::golden

// Whole runs with the tiny models: what must hold whatever the numbers are (those are compared by
// the golden fixtures).
#include "stable_diffusion/pipeline.h"

#include "kernels/thread_pool.h"
#include "model_folder.h"
#include "stable_diffusion/model_container.h"
#include "stable_diffusion/png.h"
#include "support/throws.h"

namespace mlxcpp::sd {
namespace {

using mlxcpp::test::error_of;
using test::kSd21;
using test::kXl;
using ::testing::HasSubstr;

EvaluateParameters small(float cfg = 7.5f, int steps = 3) {
  return {.prompt = "a photo of a horse",
          .cfg = cfg,
          .steps = steps,
          .latent_width = 8,
          .latent_height = 16,
          .seed = 42};
}

StableDiffusion tiny(const std::filesystem::path& folder = kSd21) {
  return StableDiffusion(ModelSource(folder), {.dtype = mx::float32});
}

mx::array last(DenoiseIterator steps) {
  std::optional<mx::array> out;
  while (const auto step = steps.next()) out = step->latents;
  return *out;
}

bool same(const mx::array& a, const mx::array& b) { return mx::array_equal(a, b).item<bool>(); }

TEST(Pipeline, SamePictureForTheSameSeedAndAnyThreads) {
  for (const auto& folder : {kSd21, kXl}) {
    const auto picture = [&](uint64_t seed) {
      auto model = tiny(folder);
      auto p = small();
      p.seed = seed;
      auto image = model.decode(last(model.generate(p)));
      image.eval();
      return image;
    };
    const int threads = kernels::num_threads();
    const auto want = picture(1);
    EXPECT_EQ(want.shape(), (mx::Shape{1, 128, 64, 3}));
    for (const int n : {1, 2, 5}) {
      kernels::set_num_threads(n);
      EXPECT_TRUE(same(picture(1), want)) << n << " threads";
    }
    kernels::set_num_threads(threads);
    EXPECT_FALSE(same(picture(2), want)) << "another seed";
  }
}

TEST(Pipeline, EverySamplerEndsInAPicture) {
  auto model = tiny();
  for (const auto& name : sampler_names()) {
    auto p = small();
    p.sampler = name;
    const auto x = last(model.generate(p));
    EXPECT_TRUE(mx::all(mx::isfinite(x)).item<bool>()) << name;
  }
}

// At guidance 0 and 1 the negative prompt has no part; above it has.
TEST(Pipeline, GuidanceOfOneAndBelowIsOnePass) {
  auto model = tiny();
  int passes = 0;
  const auto run = [&](float cfg, std::optional<std::string> negative) {
    auto p = small(cfg, 2);
    p.negative_prompt = std::move(negative);
    auto steps = model.generate(p);
    const nn::ObserverScope scope(
        [&](const nn::Module&, const mx::array& x) { passes = std::max(passes, x.shape(0)); });
    passes = 0;
    return last(std::move(steps));
  };
  const auto plain = run(0, std::nullopt);
  EXPECT_EQ(passes, 1);
  EXPECT_TRUE(same(run(1, "blurry"), plain));
  EXPECT_EQ(passes, 1);
  const auto guided = run(5, std::nullopt);
  EXPECT_EQ(passes, 2) << "with and without the prompt, as one batch";
  EXPECT_FALSE(same(guided, plain));
  EXPECT_TRUE(same(run(5, ""), guided)) << "an empty negative prompt is none";
  EXPECT_FALSE(same(run(5, "blurry"), guided));
}

// A prompt beyond the text encoder's 77 tokens: cut, or whole on demand.
TEST(Pipeline, LongPrompts) {
  for (const auto& folder : {kSd21, kXl}) {
    auto model = tiny(folder);
    std::string text;
    for (int i = 0; i < 100; ++i) text += "horse ";
    const auto run = [&](const std::string& prompt, bool whole,
                         std::optional<std::string> negative = {}) {
      auto p = small(5, 2);
      p.prompt = prompt;
      p.negative_prompt = std::move(negative);
      p.whole_prompt = whole;
      return last(model.generate(p));
    };
    EXPECT_TRUE(same(run(text + "red", false), run(text + "blue", false))) << "the end is cut";
    EXPECT_FALSE(same(run(text + "red", true), run(text + "blue", true)));
    EXPECT_FALSE(same(run("red", true, text + "red"), run("red", true, text + "blue")));
    EXPECT_TRUE(same(run("red", true, "blue"), run("red", false, "blue"))) << "nothing to cut";
  }
}

TEST(Pipeline, WindowsOfALongPromptAreEncodedAlone) {
  auto model = tiny();
  std::string first, second = "red";
  for (int i = 0; i < 75; ++i) first += "a ";
  const PromptTokenizer tokenizer(model.source().tokenizer_folder(0));
  const auto windows = tokenizer.encode_windows(first + second, 77);
  ASSERT_EQ(windows.size(), 2U) << "75 words of one token each, and the rest";
  EXPECT_EQ(windows[0], tokenizer.encode(first, 77));
  EXPECT_EQ(windows[1], tokenizer.encode(second, 77));
  EXPECT_EQ(tokenizer.encode_windows("", 77).size(), 1U);
  EXPECT_EQ(tokenizer.encode_windows(first, 77).size(), 1U) << "exactly full";
  const auto both = model.condition(first + second, 2).states;
  const auto alone =
      mx::concatenate({model.condition(first).states, model.condition(second).states}, 1);
  EXPECT_TRUE(same(both, alone));
}

// What goes into the file is within 2/255 of diffusers' picture of the same latents.
TEST(Pipeline, PixelsAreThoseOfDiffusers) {
  const auto golden = load_safetensors(kSd21 / "golden.safetensors");
  const auto channels_last = [](const mx::array& x) { return mx::transpose(x, {0, 2, 3, 1}); };
  const auto pixels = [](const mx::array& x) { return mx::astype(to_pixels(x), mx::int32); };
  const auto got = pixels(tiny().decode(channels_last(golden.at("traj.cfg.4"))));
  const auto want = pixels(channels_last(golden.at("traj.cfg.image")));
  EXPECT_EQ(got.shape(), want.shape());
  EXPECT_LE(mx::max(mx::abs(got - want)).item<int>(), 2);
  EXPECT_GT(mx::max(want).item<int>() - mx::min(want).item<int>(), 50) << "a picture";
}

size_t bytes_of(const nn::Module& module) {
  size_t n = 0;
  for (const auto& [path, value] : module.parameters()) n += value.nbytes();
  return n;
}

TEST(Pipeline, ConservingMemoryLetsEachPartGoBeforeTheNext) {
  const ModelSource source(kSd21);
  // f16: f32 weights would stay in the mapped file.
  const size_t text = bytes_of(*source.load_text_encoder(0, mx::float16));
  const auto picture = mx::zeros({64, 32, 3});
  const auto held = [&](bool conserve, bool from_picture) {
    StableDiffusion model(ModelSource(kSd21), {.dtype = mx::float16, .conserve_memory = conserve});
    mx::synchronize();
    const size_t before = mx::get_active_memory();
    const auto steps =
        from_picture ? model.generate(picture, 0.5, small(1)) : model.generate(small(1));
    mx::synchronize();
    return mx::get_active_memory() - before;
  };
  EXPECT_LE(held(true, false) + text, held(false, false));
  EXPECT_LT(held(true, true) + text, held(false, true)) << "the autoencoder went, too";
}

TEST(Pipeline, BatchesOfPictures) {
  auto model = tiny(kXl);
  auto p = small(3);
  p.image_count = 3;
  const auto x = last(model.generate(p));
  ASSERT_EQ(x.shape(), (mx::Shape{3, 16, 8, 4}));
  EXPECT_FALSE(
      same(mx::slice(x, {0, 0, 0, 0}, {1, 16, 8, 4}), mx::slice(x, {1, 0, 0, 0}, {2, 16, 8, 4})));
  const auto together = model.decode(x);
  for (int i = 0; i < 3; ++i)
    EXPECT_TRUE(mx::allclose(model.decode(mx::slice(x, {i, 0, 0, 0}, {i + 1, 16, 8, 4})),
                             mx::slice(together, {i, 0, 0, 0}, {i + 1, 128, 64, 3}), 0, 1e-5)
                    .item<bool>());
}

TEST(Pipeline, ImageToImageTakesItsShareOfTheSteps) {
  auto model = tiny();
  const auto picture = mx::sin(mx::reshape(mx::arange(64 * 32 * 3, mx::float32), {64, 32, 3}));
  for (const auto& [strength, steps] : {std::pair(1.0f, 4), {0.5f, 2}, {0.3f, 1}}) {
    auto run = model.generate(picture, strength, small(1, 4));
    EXPECT_EQ(run.count(), steps);
    EXPECT_EQ(last(std::move(run)).shape(), (mx::Shape{1, 8, 4, 4})) << "of the picture's size";
  }
}

// As LatentConsistencyModelImg2ImgPipeline, and not as StableDiffusionImg2ImgPipeline.
TEST(Pipeline, LatentConsistencyModelsTakeAllStepsFromAPicture) {
  test::ModelFolder folder;
  auto p = small(1, 4);
  p.sampler = "lcm";
  const auto picture = mx::zeros({64, 32, 3});
  EXPECT_EQ(tiny(folder.path()).generate(picture, 0.5, p).count(), 2);
  folder.set("model_index.json", "_class_name", "LatentConsistencyModelPipeline");
  auto model = tiny(folder.path());
  EXPECT_EQ(model.generate(picture, 0.5, p).count(), 4);
  EXPECT_THAT(error_of([&] { model.generate(picture, 0.05, p); }), HasSubstr("at most 2 steps"));
  EXPECT_THAT(error_of([&] { model.validate(p, 0.05); }), HasSubstr("at most 2 steps"));
  EXPECT_NO_THROW(model.validate(p, 0.5));
}

TEST(Pipeline, StepsCountAndForesee) {
  auto model = tiny();
  auto steps = model.generate(small(1, 3));
  for (int i = 0; i < 3; ++i) {
    const auto step = steps.next();
    ASSERT_TRUE(step);
    EXPECT_EQ(step->index, i);
    EXPECT_EQ(step->count, 3);
    EXPECT_EQ(model.decode(step->predicted).shape(), (mx::Shape{1, 128, 64, 3})) << "a preview";
  }
  EXPECT_FALSE(steps.next());
  EXPECT_FALSE(steps.next());
  EXPECT_FALSE(steps.stopped());
}

TEST(Pipeline, StopsBetweenStepsAndGivesMemoryBack) {
  std::stop_source stop;
  mx::synchronize();
  const size_t nothing = mx::get_active_memory();
  std::optional<DenoiseIterator> steps;
  {
    auto model = tiny();
    steps = model.generate(small(7.5f, 50));
  }
  EXPECT_TRUE(steps->next(stop.get_token()));
  EXPECT_GT(mx::get_active_memory(), nothing) << "the run holds its UNet";
  stop.request_stop();
  EXPECT_FALSE(steps->next(stop.get_token()));
  EXPECT_TRUE(steps->stopped());
  mx::synchronize();
  EXPECT_LE(mx::get_active_memory(), nothing + 64) << "all but the random numbers' key";
  EXPECT_FALSE(steps->next()) << "over for good";
}

TEST(Pipeline, Picture20TakesNoMoreMemoryThanPicture1) {
  auto model = tiny();
  model.ensure_loaded();
  const auto use = [&] {
    mx::reset_peak_memory();
    model.decode(last(model.generate(small(7.5f, 2)))).eval();
    mx::synchronize();
    return std::pair(mx::get_active_memory(), mx::get_peak_memory());
  };
  const auto [held, peak] = use();
  auto later = use();
  for (int i = 2; i < 20; ++i) later = use();
  EXPECT_EQ(later.first, held) << "nothing is kept";
  // Temporaries go as the stream's thread lets go of them: peaks differ a little.
  EXPECT_LE(later.second, peak + peak / 4);
}

TEST(Pipeline, TheDecoderOutlivesTheModel) {
  ImageDecoder decoder;
  std::optional<mx::array> latents;
  {
    auto model = tiny();
    latents = last(model.generate(small()));
    decoder = model.detached_decoder();
  }
  const auto image = decoder(*latents);
  EXPECT_EQ(image.shape(), (mx::Shape{1, 128, 64, 3}));
  EXPECT_GE(mx::min(image).item<float>(), 0);
  EXPECT_LE(mx::max(image).item<float>(), 1);
}

TEST(ModelContainer, WorksOnAThreadOfItsOwnInTwoStages) {
  ModelContainer container([] { return std::make_unique<StableDiffusion>(tiny()); });
  EXPECT_NE(container.perform([](StableDiffusion&) { return std::this_thread::get_id(); }).get(),
            std::this_thread::get_id());
  const auto denoise = [](StableDiffusion& model) {
    return std::pair(last(model.generate(small())), model.detached_decoder());
  };
  const auto decode = [](const std::pair<mx::array, ImageDecoder>& between) {
    auto image = between.second(between.first);
    image.eval();
    return image;
  };
  const auto image = container.perform_two_stage(denoise, decode).get();
  EXPECT_TRUE(same(container.perform_two_stage(denoise, decode).get(), image));

  container.set_conserve_memory(true);
  EXPECT_TRUE(same(container.perform_two_stage(denoise, decode).get(), image));
  EXPECT_THAT(error_of([&] { container.perform([](StableDiffusion&) {}).get(); }),
              HasSubstr("given up"));
}

TEST(ModelContainer, FaultsOfLoadingAreThrown) {
  EXPECT_THAT(error_of([] {
                ModelContainer([]() -> std::unique_ptr<StableDiffusion> {
                  return std::make_unique<StableDiffusion>(tiny("/no/such/model"));
                });
              }),
              HasSubstr("/no/such/model"));
}

}  // namespace
}  // namespace mlxcpp::sd

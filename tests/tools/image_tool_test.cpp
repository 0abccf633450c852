// image-tool as its users run it, with the tiny models: pictures, messages, exit states.
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "stable_diffusion/pipeline.h"
#include "stable_diffusion/png.h"
#include "support/temp_folder.h"
#include "tests/stable_diffusion/model_folder.h"
#include "tests/support/paths.h"
#include "tests/support/shell.h"
#include "vlm/media/picture.h"

namespace mlxcpp {
namespace {

namespace mx = mlx::core;

using test::read_all;
using test::TempFolder;
using ::testing::HasSubstr;
using ::testing::Not;

class ImageTool : public ::testing::Test {
 protected:
  // `image-tool sd ARGUMENTS`, with `environment` before it.
  test::Outcome run(const std::string& arguments, const std::string& environment = "") const {
    return test::shell(environment + " '" + test::tool("image-tool") + "' sd " + arguments, folder,
                       "2>&1");
  }
  // A small picture of the model; what `more` says goes before what is said here.
  std::string text(const std::string& output, const std::string& more = "",
                   const std::string& model = "sd21") const {
    std::string out =
        fmt::format("text --model '{}/sd/{}' {}", test::golden_folder().string(), model, more);
    for (const auto& [option, value] : std::initializer_list<std::pair<const char*, std::string>>{
             {"--prompt", "'a horse'"},
             {"--latent-width", "8"},
             {"--latent-height", "16"},
             {"--steps", "3"},
             {"--seed", "5"},
             {"--output", (folder / output).string()}})
      if (more.find(option) == std::string::npos) out += fmt::format(" {} {}", option, value);
    return out;
  }
  std::string bytes(const std::string& output) const { return read_all(folder / output); }

  TempFolder folder;
};

TEST_F(ImageTool, SamePngForTheSameSeedOnEveryRunAndThreadCount) {
  for (const char* model : {"sd15", "sd21", "sdxl_turbo"}) {
    const auto first = run(text("a.png", "", model));
    ASSERT_EQ(first.status, 0) << first.out;
    const auto want = bytes("a.png");
    EXPECT_THAT(want, HasSubstr("PNG"));
    ASSERT_EQ(run(text("b.png", "", model)).status, 0);
    EXPECT_EQ(bytes("b.png"), want);
    for (const char* threads : {"1", "2", "7"}) {
      ASSERT_EQ(run(text("b.png", "", model), std::string("MLXCPP_NUM_THREADS=") + threads).status,
                0);
      EXPECT_EQ(bytes("b.png"), want) << threads << " threads";
    }
    ASSERT_EQ(run(text("b.png", "--seed 6", model)).status, 0);
    EXPECT_NE(bytes("b.png"), want);
  }
}

// The file shows what the library computes: alone as it is, several in frames.
TEST_F(ImageTool, PicturesOfTheFileAreThoseOfTheLibrary) {
  sd::StableDiffusion model(sd::ModelSource(test::golden_folder() / "sd/sd21"));
  for (const int count : {1, 3}) {
    auto steps = model.generate({.prompt = "a horse",
                                 .cfg = 7.5f,
                                 .steps = 3,
                                 .image_count = count,
                                 .latent_width = 8,
                                 .latent_height = 16,
                                 .seed = 5});
    std::optional<mx::array> latents;
    while (const auto step = steps.next()) latents = step->latents;
    auto want = mx::contiguous(sd::to_pixels(model.decode(*latents)));
    want.eval();

    const auto outcome =
        run(text("a.png", fmt::format("--image-count {} --rows {} --preview '{}'", count,
                                      (count + 1) / 2, (folder / "preview.png").string())));
    ASSERT_EQ(outcome.status, 0) << outcome.out;
    const auto file = media::read_picture(folder / "a.png");
    const int frame = count == 1 ? 0 : 8;
    ASSERT_EQ(file.width, (count == 1 ? 1 : 2) * (64 + 2 * frame));
    ASSERT_EQ(file.height, (count == 1 ? 1 : 2) * (128 + 2 * frame));
    for (int n = 0; n < count; ++n)
      for (int y = 0; y < 128; ++y) {
        const auto* row =
            file.rgb.data() + 3 * ((n / 2 * (128 + 2 * frame) + frame + y) * file.width +
                                   n % 2 * (64 + 2 * frame) + frame);
        const auto* expected = want.data<uint8_t>() + (n * 128 + y) * 64 * 3;
        ASSERT_TRUE(std::equal(row, row + 64 * 3, expected)) << "picture " << n << ", row " << y;
      }
    const auto preview = media::read_picture(folder / "preview.png");
    EXPECT_EQ(preview.width, file.width);
    EXPECT_EQ(preview.height, file.height);
  }
}

TEST_F(ImageTool, SeedsAreWholeNumbersOf64Bits) {
  for (const char* seed : {"-1", "18446744073709551616", "1.5", "x"}) {
    const auto outcome = run(text("no.png", fmt::format("--seed={}", seed)));
    EXPECT_EQ(outcome.status, 2) << seed;
    EXPECT_THAT(outcome.out, HasSubstr("expected a whole number from 0 to 18446744073709551615"));
  }
}

TEST_F(ImageTool, ConservingMemoryChangesNothing) {
  ASSERT_EQ(run(text("a.png", "--image-count 2")).status, 0);
  ASSERT_EQ(run(text("b.png", "--image-count 2 --conserve-memory")).status, 0);
  EXPECT_EQ(bytes("a.png"), bytes("b.png"));
}

TEST_F(ImageTool, ASingleFileGivesThePictureOfItsFolder) {
  const std::string single = (test::golden_folder() / "sd/sd15_single").string();
  ASSERT_EQ(run(text("a.png", "--no-float16", "sd15")).status, 0);
  const auto outcome =
      run(text("b.png", "--no-float16 --config '" + single + "'", "sd15_single/model.safetensors"));
  ASSERT_EQ(outcome.status, 0) << outcome.out;
  // All but the parameters, which name the model.
  const auto pixels = [&](const char* file) {
    const auto all = bytes(file);
    return all.substr(all.find("IDAT"));
  };
  EXPECT_EQ(pixels("a.png"), pixels("b.png"));
}

TEST_F(ImageTool, OptionsAndParametersInTheFile) {
  const auto outcome =
      run(text("a.png",
               "--negative-prompt blurry --cfg 3 --image-count 3 --batch-size 2 --rows 2 "
               "--sampler ddim --quantize --dtype bfloat16 --tile 8 --preview '" +
                   (folder / "preview.png").string() + "'"));
  ASSERT_EQ(outcome.status, 0) << outcome.out;
  EXPECT_THAT(outcome.out, HasSubstr("step 3/3"));
  EXPECT_THAT(outcome.out, HasSubstr("left"));
  const auto png = bytes("a.png");
  for (const char* what : {"a horse", "Negative prompt: blurry", "Steps: 3", "Sampler: ddim",
                           "CFG scale: 3", "Seed: 5", "Size: 64x128"})
    EXPECT_THAT(png, HasSubstr(what));
  EXPECT_THAT(bytes("preview.png"), HasSubstr("PNG"));
}

TEST_F(ImageTool, QuietSaysNothing) {
  const auto outcome = run(text("a.png", "--quiet"));
  EXPECT_EQ(outcome.status, 0);
  EXPECT_EQ(outcome.out, "");
}

TEST_F(ImageTool, TheLogTellsOfPndmAndOfCutPrompts) {
  std::string prompt;
  for (int i = 0; i < 100; ++i) prompt += "dog ";
  const auto outcome = run(text("a.png", "--prompt '" + prompt + "'"), "MLXCPP_LOG=info");
  ASSERT_EQ(outcome.status, 0) << outcome.out;
  const size_t note = outcome.out.find("PNDMScheduler is run as Euler");
  EXPECT_NE(note, std::string::npos);
  EXPECT_EQ(outcome.out.find("PNDMScheduler is run as Euler", note + 1), std::string::npos)
      << "said once";
  EXPECT_THAT(outcome.out, HasSubstr("the text encoder takes 77; left out: '"));
}

TEST_F(ImageTool, ImageToImage) {
  const std::string input = (test::golden_folder() / "sd/sd21/image0.png").string();  // 64 x 128
  const auto image = [&](const std::string& output, const std::string& more) {
    return run(
        fmt::format("image --model '{}/sd/sd21' --prompt 'a horse' --steps 4 --seed 5 "
                    "--output '{}' {}",
                    test::golden_folder().string(), (folder / output).string(), more));
  };
  const auto first = image("a.png", "--input '" + input + "'");
  ASSERT_EQ(first.status, 0) << first.out;
  EXPECT_THAT(first.out, HasSubstr("step 3/3")) << "0.9 of four steps";
  EXPECT_THAT(bytes("a.png"), HasSubstr("Size: 64x128, Denoising strength: 0.9"));
  ASSERT_EQ(image("b.png", "--input '" + input + "'").status, 0);
  EXPECT_EQ(bytes("a.png"), bytes("b.png"));
  ASSERT_EQ(image("b.png", "--conserve-memory --input '" + input + "'").status, 0);
  EXPECT_EQ(bytes("a.png"), bytes("b.png"));
  const auto weak = image("b.png", "--strength 0.01 --input '" + input + "'");
  EXPECT_THAT(weak.out, HasSubstr("step 1/1")) << "one step at least";

  const auto fault = [&](const std::string& more, int status = 1) {
    const auto outcome = image("no.png", more);
    EXPECT_EQ(outcome.status, status) << more;
    EXPECT_FALSE(std::filesystem::exists(folder / "no.png"));
    return outcome.out;
  };
  EXPECT_THAT(fault("--strength 0 --input '" + input + "'", 2), HasSubstr("--strength"));
  EXPECT_THAT(fault("--strength 1e-300 --input '" + input + "'"), HasSubstr("1000 timesteps"));
  EXPECT_THAT(fault("--strength 1.5 --input '" + input + "'", 2), HasSubstr("--strength"));
  EXPECT_THAT(fault("--max-edge 60 --input '" + input + "'"), HasSubstr("60 a side"));
  EXPECT_THAT(fault("--input /no/such/picture.png"), HasSubstr("/no/such/picture.png"));
  EXPECT_THAT(fault("--input '" + (test::golden_folder() / "sd/sd21/golden.json").string() + "'"),
              HasSubstr("golden.json"));
  EXPECT_EQ(image("no.png", "").status, 2) << "--input is needed";
}

// A latent consistency model takes all its steps, over what the strength leaves of its schedule.
TEST_F(ImageTool, ImageToImageOfLatentConsistencyModels) {
  const sd::test::ModelFolder lcm;
  lcm.set("model_index.json", "_class_name", "LatentConsistencyModelPipeline");
  lcm.write("scheduler/scheduler_config.json", R"({"_class_name": "LCMScheduler"})");
  const auto image = [&](const std::string& more) {
    return run(fmt::format(
        "image --model '{}' --cfg 1 --seed 5 --input '{}/sd/sd21/image0.png' "
        "--output '{}' {}",
        lcm.path().string(), test::golden_folder().string(), (folder / "a.png").string(), more));
  };
  for (const char* strength : {"1", "0.5", "0.1"}) {
    const auto outcome = image(std::string("--steps 4 --strength ") + strength);
    EXPECT_EQ(outcome.status, 0) << outcome.out;
    EXPECT_THAT(outcome.out, HasSubstr("step 4/4")) << strength;
  }
  EXPECT_THAT(image("--steps 4 --strength 0.5 --sampler euler").out, HasSubstr("step 2/2"))
      << "other samplers have no such schedule";
  const auto fault = image("--steps 6 --strength 0.1");
  EXPECT_EQ(fault.status, 1);
  EXPECT_THAT(fault.out, HasSubstr("LCM: at most 5 steps"));
}

// Parts are loaded one after the other; a decoder that cannot be is known before the first step.
TEST_F(ImageTool, ADecoderThatDoesNotFitIsRefusedBeforeTheFirstStep) {
  const auto fault = [&](const sd::test::ModelFolder& model) {
    for (const char* memory : {"", "--conserve-memory"}) {
      const auto outcome = run(fmt::format(
          "text --model '{}' --latent-width 8 --latent-height 8 --steps 1 --output '{}' {}",
          model.path().string(), (folder / "a.png").string(), memory));
      EXPECT_EQ(outcome.status, 1) << outcome.out;
      EXPECT_THAT(outcome.out, Not(HasSubstr("step 1")));
      EXPECT_EQ(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 1) << outcome.out;
      EXPECT_FALSE(std::filesystem::exists(folder / "a.png"));
      if (*memory) return outcome.out;
    }
    return std::string();
  };
  const std::string file = "vae/diffusion_pytorch_model.safetensors";
  const auto with_weights = [&](auto change) {
    const sd::test::ModelFolder model;
    auto weights = load_safetensors(test::golden_folder() / "sd/sd21" / file);
    change(weights);
    std::filesystem::remove(model / file);
    write_safetensors(model / file, weights);
    return fault(model);
  };
  EXPECT_THAT(with_weights([](auto& w) { w.erase("decoder.conv_in.bias"); }),
              HasSubstr("vae: weights do not fit the model: missing decoder.conv_in.bias"));
  EXPECT_THAT(with_weights([](auto& w) {
                w.insert_or_assign("decoder.conv_in.weight", mx::zeros({16, 16, 3, 3}));
              }),
              HasSubstr("shape of decoder.conv_in.weight"));
  EXPECT_THAT(with_weights([](auto& w) {
                w.insert_or_assign("decoder.conv_in.bias", mx::zeros({16}, mx::int32));
              }),
              HasSubstr("decoder.conv_in.bias"));
  const auto with = [&](const char* key, const Json& value) {
    sd::test::ModelFolder model;
    model.set("vae/config.json", key, value);
    return fault(model);
  };
  EXPECT_THAT(with("latent_channels", 16), HasSubstr("do not belong together"));
  EXPECT_THAT(with("scaling_factor", 0), HasSubstr("'scaling_factor'"));
  EXPECT_THAT(with("scaling_factor", 1e39), HasSubstr("'scaling_factor'"));
  EXPECT_THAT(with("out_channels", 4), HasSubstr("a picture has 3"));
  EXPECT_THAT(with("layers_per_block", 3), HasSubstr("vae: weights do not fit the model"));
  const sd::test::ModelFolder none, broken;
  std::filesystem::remove(none / file);
  EXPECT_THAT(fault(none), HasSubstr("no diffusion_pytorch_model.safetensors here"));
  std::filesystem::resize_file(broken / file, std::filesystem::file_size(broken / file) / 2);
  EXPECT_THAT(fault(broken), HasSubstr("diffusion_pytorch_model.safetensors"));
}

// Seen before anything is loaded or computed.
TEST_F(ImageTool, Faults) {
  const auto fault = [&](const std::string& more, const std::string& model = "sd21",
                         int status = 1) {
    const auto outcome = run(text("a.png", more, model));
    EXPECT_EQ(outcome.status, status) << more;
    EXPECT_EQ(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 1) << outcome.out;
    EXPECT_THAT(outcome.out, Not(HasSubstr("step 1")));
    return outcome.out;
  };
  const auto usage = [&](const std::string& more) { return fault(more, "sd21", 2); };
  EXPECT_THAT(usage("--steps 0"), HasSubstr(" --steps: at least 1"));
  EXPECT_THAT(usage("--image-count 0"), HasSubstr(" --image-count: expected 1"));
  EXPECT_THAT(usage("--image-count 2 --rows 3"), HasSubstr(" --rows: expected 1 to 2"));
  EXPECT_THAT(usage("--latent-width 0"), HasSubstr(" --latent-width, --latent-height: expected 1"));
  EXPECT_THAT(usage("--latent-width 16384 --latent-height 16384"), HasSubstr("1048576 in all"));
  EXPECT_THAT(usage("--cfg nan"), HasSubstr(" --cfg: expected a number"));
  EXPECT_THAT(usage("--tile 1"), HasSubstr(" --tile: expected"));
  EXPECT_THAT(fault("--steps 1001"), HasSubstr("1000 timesteps"));
  EXPECT_THAT(fault("--output ."), HasSubstr("it is a folder"));
  const auto pipe = folder / "pipe";  // stands for /dev/null, which must not be replaced either
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT(fault("--output " + pipe.string()), HasSubstr("expected a regular file"));
  EXPECT_THAT(fault("--preview " + pipe.string()), HasSubstr("expected a regular file"));
  EXPECT_THAT(fault("--image-count 1024 --latent-width 128 --steps 1"),
              HasSubstr("1064960 x 144 pixels cannot be written: expected at most 1000000 a side"));
  EXPECT_THAT(fault("--image-count 1024 --rows 1024 --latent-height 128 --steps 1"),
              HasSubstr("80 x 1064960 pixels"));
  EXPECT_THAT(fault("--output /no/such/folder/a.png"), HasSubstr("/no/such/folder/a.png"));
  EXPECT_THAT(fault("--preview /no/such/folder/a.png"), HasSubstr("/no/such/folder/a.png"));
  EXPECT_THAT(fault("", "sd21/unet"), HasSubstr("model_index.json"));
  EXPECT_FALSE(std::filesystem::exists(folder / "a.png"));
  EXPECT_EQ(run("text --sampler plms").status, 2);
  EXPECT_EQ(run("text --steps many").status, 2);
  EXPECT_EQ(run("").status, 2);
}

}  // namespace
}  // namespace mlxcpp

// Gemma 3n's towers against the reference's intermediates (tests/golden/vlm).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "golden/made_weights.h"
#include "support/temp_folder.h"
#include "support/throws.h"
#include "tests/support/paths.h"
#include "vlm/media_processor.h"
#include "vlm/models/gemma3n_audio.h"
#include "vlm/models/gemma3n_vision.h"
#include "vlm/registry.h"
#include "weights/safetensors.h"

namespace mlxcpp::vlm {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using ::testing::HasSubstr;

const fs::path kGemma3n = test::golden_folder() / "vlm/gemma3n",
               kFullDepth = test::golden_folder() / "vlm/gemma3n_vision_full";

// The weights below a prefix.
nn::Weights below(const nn::Weights& weights, std::string_view prefix) {
  nn::Weights out;
  for (const auto& [name, w] : weights)
    if (name.starts_with(prefix)) out.emplace(name.substr(prefix.size()), w);
  return out;
}

std::unique_ptr<MobileNetV5> load_tower(const fs::path& folder, const Json& config) {
  auto tower = std::make_unique<MobileNetV5>(read_config<Gemma3nVisionConfig>(config));
  const auto weights = golden::made_weights(folder);
  nn::load(*tower, below(convolutions_channels_last(weights), "model.vision_tower.timm_model."));
  return tower;
}

std::unique_ptr<Conformer> load_conformer() {
  const auto weights = golden::made_weights(kGemma3n);
  auto tower = std::make_unique<Conformer>(
      read_config<Gemma3nAudioConfig>(read_json(kGemma3n / "config.json").at("audio_config")));
  nn::load(*tower, below(convolutions_channels_last(weights), "model.audio_tower."));
  return tower;
}

Json vision_config() { return read_json(kGemma3n / "config.json").at("vision_config"); }

// Stored as 8-bit samples.
mx::array pixels(const mx::array& samples) {
  return mx::astype(samples, mx::float32) / mx::array(255.0f);
}

mx::array channels_first(const mx::array& x) { return mx::transpose(x, {0, 3, 1, 2}); }

void expect_near(const std::string& name, const mx::array& got, const mx::array& want,
                 double bound) {
  ASSERT_EQ(got.shape(), want.shape()) << name;
  EXPECT_LE(mx::max(mx::abs(got - want)).item<float>(), bound) << name;
}

// Outputs of a module's parts while it runs, by their paths.
template <class Run>
std::map<std::string, mx::array> outputs_of(const nn::Module& root, Run run) {
  std::map<std::string, mx::array> seen;
  const auto paths = root.paths();
  const nn::ObserverScope scope([&](const nn::Module& m, const mx::array& y) {
    if (const auto it = paths.find(&m); it != paths.end()) seen.insert_or_assign(it->second, y);
  });
  run();
  return seen;
}

TEST(Gemma3nVision, StagesAreTheReferences) {
  const auto want = read_safetensors(kGemma3n / "golden.safetensors").tensors;
  const auto tower = load_tower(kGemma3n, vision_config());
  const auto seen =
      outputs_of(*tower, [&] { mx::eval((*tower)(pixels(want.at("image.pixel_values")))); });
  for (const auto& [name, path] : {std::pair("stem", "conv_stem"),
                                   {"stage0", "blocks.0"},
                                   {"stage1", "blocks.1"},
                                   {"stage2", "blocks.2"},
                                   {"stage3", "blocks.3"},
                                   {"msfa", "msfa"}})
    expect_near(name, channels_first(seen.at(path)), want.at(std::string("image.vision.") + name),
                2e-4);
  expect_near("two", channels_first((*tower)(pixels(want.at("two_images.pixel_values")))),
              want.at("two_images.vision.msfa"), 2e-4);
}

// All 84 published blocks.
TEST(Gemma3nVision, BlocksOfTheFullDepthAreTheReferences) {
  const auto want = read_safetensors(kFullDepth / "golden.safetensors").tensors;
  const auto tower = load_tower(kFullDepth, read_json(kFullDepth / "config.json"));
  size_t blocks = 0;
  for (size_t i = 0; i < tower->blocks.size(); ++i) blocks += tower->blocks[i].blocks.size();
  EXPECT_EQ(blocks, 84u);
  mx::array output(0.0f);
  const auto seen = outputs_of(*tower, [&] { output = (*tower)(pixels(want.at("pixel_values"))); });
  expect_near("output", channels_first(output), want.at("output"), 5e-4);
  for (const auto& [name, tensor] : want) {
    if (name == "pixel_values" || name == "output") continue;
    std::string path = name == "stem" ? "conv_stem" : name == "msfa_ffn" ? "msfa.ffn" : name;
    if (const auto dot = name.find(".block"); dot != std::string::npos)  // "stage2.block36"
      path = "blocks." + name.substr(5, dot - 5) + "." + name.substr(dot + 6);
    expect_near(name, channels_first(seen.at(path)), tensor, 5e-4);
  }
}

TEST(Gemma3nVision, ThePublishedNetworkHasThePublishedBlocks) {
  const Gemma3nVisionConfig config;
  const MobileNetV5 tower(config);
  std::vector<size_t> blocks;
  for (size_t i = 0; i < 4; ++i) blocks.push_back(tower.blocks[i].blocks.size());
  EXPECT_EQ(blocks, (std::vector<size_t>{3, 5, 37, 39}));
  EXPECT_EQ(config.soft_tokens(), 256);
  EXPECT_EQ(tower.num_parameters(), 294'126'912u);
}

// mlx_vlm's checkpoints have channels last.
TEST(Gemma3nVision, ChannelsLastStayAsTheyAre) {
  const auto weights = golden::made_weights(kGemma3n);
  const auto once = convolutions_channels_last(weights);
  const auto twice = convolutions_channels_last(once);
  for (const auto& [name, w] : once) EXPECT_EQ(w.shape(), twice.at(name).shape()) << name;
}

TEST(Gemma3nVision, RefusesWhatItWouldHaveToInterpolate) {
  const auto tower = load_tower(kGemma3n, vision_config());
  EXPECT_THAT(error_of([&] { (*tower)(mx::zeros({1, 3, 144, 144})); }),
              AllOf(HasSubstr("9 x 9"), HasSubstr("whole pixels")));
  EXPECT_THAT(error_of([&] { (*tower)(mx::zeros({1, 3, 128, 96})); }), HasSubstr("6 x 8"));
  EXPECT_THAT(error_of([&] { (*tower)(mx::zeros({1, 1, 128, 128})); }),
              HasSubstr("[1, 1, 128, 128]"));
  EXPECT_EQ((*tower)(mx::zeros({1, 3, 256, 128})).shape(), (mx::Shape{1, 4, 4, 64}));
}

TEST(Gemma3nVision, RefusesBlocksThatAreNotThere) {
  const auto error_with = [](const std::string& first) {
    Json config = vision_config();
    config["model_args"]["arch_def"][1][0] = first;
    return error_of([&] { MobileNetV5(read_config<Gemma3nVisionConfig>(config)); });
  };
  EXPECT_THAT(error_with("ir_r1_k3_s2_e4_c8"), HasSubstr("'ir' is not known"));
  EXPECT_THAT(error_with("uir_r1_a3_k5_s2_e6"), HasSubstr("'c' is missing"));
  EXPECT_THAT(error_with("uir_r1_a3_k5_s2_e6_c16_se0.25"), HasSubstr("'se0.25' is not supported"));
  EXPECT_THAT(error_with("uir_r1_a3_k5_s2_e6_c99999999"), HasSubstr("'c99999999'"));
  EXPECT_THAT(error_with("uir_r1_a0_k0_s2_e6_c16"), HasSubstr("depthwise"));
  EXPECT_THAT(error_with("uir_r1_a3_k5_s1_e6_c16"), HasSubstr("stride of 2"));
  EXPECT_THAT(error_with(""), HasSubstr("'' is not known"));
  EXPECT_THAT(error_with("uir__"), HasSubstr("not supported"));
  Json config = vision_config();
  config["hidden_size"] = 65;
  EXPECT_THAT(error_of([&] { read_config<Gemma3nVisionConfig>(config); }),
              HasSubstr("'num_features' 64"));
}

TEST(Gemma3nAudio, LayersAreTheReferences) {
  const auto want = read_safetensors(kGemma3n / "golden.safetensors").tensors;
  const auto tower = load_conformer();
  for (const std::string name : {"audio", "two_audios"}) {
    const auto at = [&](const std::string& what) {
      return want.at(fmt::format("{}.{}", name, what));
    };
    const auto valid = mx::astype(at("input_features_mask"), mx::bool_);
    mx::array got(0.0f);
    const auto seen = outputs_of(*tower, [&] { got = (*tower)(at("input_features"), valid); });
    expect_near("subsample", seen.at("subsample_conv_projection"), at("audio.subsample"), 2e-4);
    for (int i = 0; i < 3; ++i)
      expect_near(fmt::format("conformer{}", i), seen.at(fmt::format("conformer.{}", i)),
                  at(fmt::format("audio.conformer{}", i)), 2e-4);
    expect_near("tower", got, at("audio.tower"), 2e-4);
    const auto padding = mx::astype(mx::logical_not(tower->heard(valid)), mx::int32);
    EXPECT_TRUE(mx::array_equal(padding, at("audio.mask_out")).item<bool>());
  }
}

TEST(Gemma3nAudio, BadConfigsAndFeatures) {
  const auto error_with = [](const char* key, const Json& value) {
    Json config = read_json(kGemma3n / "config.json").at("audio_config");
    config[key] = value;
    return error_of([&] { read_config<Gemma3nAudioConfig>(config); });
  };
  EXPECT_THAT(error_with("conf_num_attention_heads", 5), HasSubstr("multiple"));
  EXPECT_THAT(error_with("conf_attention_chunk_size", 0), HasSubstr("positive"));
  EXPECT_THAT(error_with("sscp_conv_stride_size", Json::array({1, 2})), HasSubstr("list"));
  EXPECT_THAT(error_with("sscp_conv_kernel_size", {{3, 3}}), HasSubstr("two pairs"));
  EXPECT_THAT(error_with("sscp_conv_channel_size", {16, 0}), HasSubstr("two numbers"));
  EXPECT_THAT(error_with("input_feat_size", 1 << 20), HasSubstr("more than"));
  EXPECT_THAT(error_with("conf_something", 1), HasSubstr("conf_something"));

  const auto tower = load_conformer();
  EXPECT_THAT(error_of([&] { (*tower)(mx::zeros({1, 10, 80}), mx::ones({1, 10}, mx::bool_)); }),
              HasSubstr("[n, frames, 128]"));
  EXPECT_THAT(error_of([&] { (*tower)(mx::zeros({1, 10, 128}), mx::ones({1, 9}, mx::bool_)); }),
              HasSubstr("[1, 9]"));
  const Gemma3nAudioConfig config;
  for (const int frames : {1, 2, 117, 2997})
    EXPECT_EQ(config.soft_tokens(frames), (frames + 15) / 16) << frames;
}

std::shared_ptr<const Processor> processor_of(const fs::path& folder) {
  return model_types().at("gemma3n").processor(read_json(kGemma3n / "config.json"), folder);
}

// What the processor makes of sounds of so many samples.
LMInput heard(const std::vector<size_t>& lengths) {
  const auto processor = processor_of(kGemma3n);
  std::vector<Content> sounds;
  std::string prompt;
  for (const size_t n : lengths) {
    sounds.push_back({media::Sound{16000, std::vector<float>(n, 0.1f)}, fmt::format("{}", n)});
    prompt += "<audio_soft_token>";
  }
  return dynamic_cast<const MediaProcessor&>(*processor)
      .assemble(prompt, sounds, *Tokenizer::from_folder(kGemma3n));
}

// As the reference does it, so that what a sound is taken for depends on the others.
TEST(Gemma3nProcessor, SoundsOfAPromptAreFilledUpToTheLongest) {
  const LMInput alone = heard({8000}), both = heard({8000, 16000});
  const auto frames = [](const Medium& m) { return m.values.at("input_features").shape(1); };
  const auto valid = [](const Medium& m) {
    return mx::sum(m.values.at("input_features_mask")).item<int>();
  };
  EXPECT_LT(frames(alone.media[0]), frames(both.media[0]));
  EXPECT_EQ(frames(both.media[0]), frames(both.media[1]));
  EXPECT_EQ(valid(both.media[0]), 50) << "one every 160 samples";
  EXPECT_NE(alone.media[0].key, both.media[0].key) << "or it would be taken for the other";
  EXPECT_EQ(both.media[0].count, 12u);
  EXPECT_GT(both.media[1].begin, both.media[0].end);
}

TEST(Gemma3nProcessor, SoundsThatDoNotFit) {
  EXPECT_NO_THROW(heard({30720}));
  EXPECT_THAT(error_of([] { heard({32000}); }),
              HasSubstr("13 soft tokens, more than the model's 12"));
  EXPECT_THAT(error_of([] { heard({31 * 16000}); }), HasSubstr("30.0 s gives 188 soft tokens"));
  EXPECT_THAT(error_of([] { heard({100}); }), HasSubstr("too short"));
}

TEST(Gemma3nProcessor, SettingsThatDoNotFitTheModel) {
  const auto error_with = [](const char* file, const char* change) {
    const test::TempFolder folder;
    for (const char* name : {"preprocessor_config.json", "processor_config.json"}) {
      Json json = read_json(kGemma3n / name);
      if (std::string_view(name) == file) json.merge_patch(Json::parse(change));
      folder.write(name, json.dump());
    }
    return error_of([&] { processor_of(folder.path()); });
  };
  EXPECT_THAT(error_with("preprocessor_config.json", R"({"size": {"height": 144, "width": 144}})"),
              HasSubstr("144 x 144, but the model's tower takes multiples of 64"));
  EXPECT_THAT(error_with("preprocessor_config.json", R"({"feature_size": 80})"),
              HasSubstr("'feature_size' is 80"));
  EXPECT_THAT(error_with("processor_config.json", R"({"image_seq_length": 256})"),
              HasSubstr("'image_seq_length' is 256, but the model takes 16"));
  EXPECT_THAT(error_with("processor_config.json", R"({"audio_seq_length": 188})"),
              HasSubstr("'audio_seq_length' is 188"));
}

}  // namespace
}  // namespace mlxcpp::vlm

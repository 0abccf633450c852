// What does not fit a model with eyes is refused, in one line that says what was found: media and
// placeholders, files, configs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../support/temp_folder.h"
#include "../support/throws.h"
#include "core/json.h"
#include "lm_common/model_context.h"
#include "tests/support/paths.h"
#include "vlm/media_processor.h"
#include "vlm/number_words.h"
#include "vlm/registry.h"

namespace mlxcpp::vlm {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

const fs::path kFixtures = test::golden_folder() / "vlm";

std::shared_ptr<const Processor> processor_of(const fs::path& folder) {
  const Json config = read_json(folder / "config.json");
  return model_types().at(model_type(config)).processor(config, folder);
}

class BadMedia : public ::testing::Test {
 protected:
  std::string error(const UserInput& input) const {
    return test::error_of([&] { processor->prepare(input, *tokenizer); });
  }
  static chat::Message showing(std::string text, std::vector<fs::path> images) {
    chat::Message m = chat::user(std::move(text));
    m.images = std::move(images);
    return m;
  }

  const fs::path folder = kFixtures / "gemma3";
  const std::shared_ptr<const Processor> processor = processor_of(folder);
  const std::shared_ptr<const Tokenizer> tokenizer = Tokenizer::from_folder(folder);
  test::TempFolder temp;
};

TEST_F(BadMedia, MarksInTheTextAreNoPictures) {
  EXPECT_THAT(error("<start_of_image> look"),
              HasSubstr("0 pictures given, but the prompt has places ('<start_of_image>') for 1"));
  EXPECT_THAT(error(Chat{showing("<start_of_image>", {folder / "image0.png"})}),
              HasSubstr("1 picture given, but the prompt has places ('<start_of_image>') for 2"));
}

TEST_F(BadMedia, SoftTokensInTheTextAreNoPictures) {
  EXPECT_THAT(error(Chat{showing("<image_soft_token>", {folder / "image0.png"})}),
              HasSubstr("more placeholders"));
}

TEST_F(BadMedia, APictureThatTheTemplateLeavesOut) {
  Json messages =
      Json::parse(R"([{"role": "system", "content": [{"type": "text", "text": "Be brief."},
                                                                 {"type": "image", "path": ""}]},
                                  {"role": "user", "content": "Hi"}])");
  messages[0]["content"][1]["path"] = (folder / "image0.png").string();
  EXPECT_THAT(error(messages),
              HasSubstr("1 picture given, but the prompt has places ('<start_of_image>') for 0"));
}

TEST_F(BadMedia, KindsThatTheModelDoesNotTake) {
  chat::Message m = chat::user("What is it?");
  m.videos = {"film.mp4"};
  EXPECT_THAT(error(Chat{m}), HasSubstr("film.mp4: this model takes no films"));
  m.videos.clear();
  m.audio = {"sound.wav"};
  EXPECT_THAT(error(Chat{m}), HasSubstr("sound.wav: this model takes no sounds"));
}

TEST_F(BadMedia, FilesThatAreNoPictures) {
  EXPECT_THAT(error(Chat{showing("Look", {temp / "none.png"})}), HasSubstr("none.png"));
  const auto text = temp.write("text.png", "not a picture");
  EXPECT_THAT(error(Chat{showing("Look", {text})}),
              AllOf(HasSubstr("text.png"), HasSubstr("expected a picture")));
  const std::string whole = test::read_all(folder / "image0.png");
  const auto half = temp.write("half.png", whole.substr(0, whole.size() / 2));
  EXPECT_THAT(error(Chat{showing("Look", {half})}), HasSubstr("half.png"));
  EXPECT_THAT(error(Chat{showing("Look", {temp.write("empty.png", "")})}), HasSubstr("empty.png"));
}

TEST_F(BadMedia, ResizeToNothingOrToTooMuch) {
  UserInput input(Chat{showing("Look", {folder / "image0.png"})});
  for (const int side : {0, 1 << 20}) {
    input.media.resize = {side, 10};
    EXPECT_THAT(error(input), HasSubstr("--resize"));
  }
}

TEST_F(BadMedia, MoreThanTheLimitsOfTheOptions) {
  UserInput input(Chat{showing("Look", {folder / "image0.png"})});
  input.media.max_pixels = 10;
  EXPECT_THAT(error(input), HasSubstr("more than the limit of 10"));
  const auto clip = [](const char* name) { return test::golden_folder() / "clips" / name; };
  const FilmReading reading{.choose = [](const media::Film&) { return std::vector<int>{0}; },
                            .shrink = [](media::Picture p, int) { return p; }};
  EXPECT_THAT(
      test::error_of([&] { read_film(clip("constant.mkv"), {.max_film_frames = 3}, reading); }),
      HasSubstr("limit of 3"));
  EXPECT_THAT(
      test::error_of([&] { read_film(clip("constant.mkv"), {.max_pixels = 100}, reading); }),
      HasSubstr("limit of 100"));
  EXPECT_THAT(
      test::error_of([&] { read_sound(clip("sine.flac"), {.max_sound_seconds = 0.1}, 16000); }),
      HasSubstr("limit of 0.1 s"));
}

TEST_F(BadMedia, APartWithoutItsFile) {
  EXPECT_THAT(error(Json::parse(R"([{"role": "user", "content": [{"type": "image"}]}])")),
              HasSubstr("without its file"));
}

// A fixture's files with one of them changed.
class BadProcessorConfig : public ::testing::Test {
 protected:
  std::string error(const char* fixture, const char* file, const char* change) const {
    for (const auto& entry : fs::directory_iterator(kFixtures / fixture))
      if (entry.path().extension() == ".json")
        fs::copy_file(entry.path(), temp / entry.path().filename(),
                      fs::copy_options::overwrite_existing);
    Json json = read_json(temp / file);
    json.merge_patch(Json::parse(change));
    temp.write(file, json.dump());
    return test::error_of([&] { processor_of(temp.path()); });
  }

  test::TempFolder temp;
};

TEST_F(BadProcessorConfig, PicturesOfAnotherSize) {
  EXPECT_THAT(
      error("gemma3", "preprocessor_config.json", R"({"size": {"height": 28, "width": 28}})"),
      HasSubstr("the model's tower takes 112 x 112"));
  EXPECT_THAT(error("paligemma", "preprocessor_config.json", R"({"size": {"height": -1}})"),
              HasSubstr("'height'"));
}

TEST_F(BadProcessorConfig, OtherPatchesTilesOrFrames) {
  EXPECT_THAT(error("qwen2_vl", "preprocessor_config.json", R"({"patch_size": 16})"),
              HasSubstr("not those of the model's tower"));
  EXPECT_THAT(error("qwen2_5_vl", "preprocessor_config.json", R"({"max_pixels": 1})"),
              HasSubstr("max_pixels"));
  EXPECT_THAT(error("qwen2_5_vl", "preprocessor_config.json", R"({"fps": -1})"), HasSubstr("fps"));
  EXPECT_THAT(
      error("idefics3", "preprocessor_config.json", R"({"max_image_size": {"longest_edge": 28}})"),
      HasSubstr("the model's tower takes 56 x 56"));
  EXPECT_THAT(error("smolvlm", "processor_config.json", R"({"image_seq_len": 5})"),
              HasSubstr("image_seq_len"));
  EXPECT_THAT(error("smolvlm", "preprocessor_config.json", R"({"num_frames": 1000})"),
              HasSubstr("frames"));
}

TEST_F(BadProcessorConfig, NoneAtAll) {
  fs::copy_file(kFixtures / "gemma3" / "config.json", temp / "config.json");
  EXPECT_THAT(test::error_of([&] { processor_of(temp.path()); }),
              HasSubstr("preprocessor_config.json"));
}

struct Case {
  const char* fixture;
  const char* change;    // merged into its config.json
  const char* expected;  // in the message
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.fixture << " " << c.change; }

class BadConfig : public ::testing::TestWithParam<Case> {};

TEST_P(BadConfig, IsRefusedByName) {
  Json config = read_json(kFixtures / GetParam().fixture / "config.json");
  EXPECT_NO_THROW(model_types().make(config));
  config.merge_patch(Json::parse(GetParam().change));
  EXPECT_THAT(test::error_of([&] { model_types().make(config); }), HasSubstr(GetParam().expected));
}

const Case kCases[] = {
    {"gemma3", R"({"mm_tokens_per_image": 15})", "mm_tokens_per_image"},
    {"gemma3", R"({"text_config": {"sliding_window": 8}})", "sliding window"},
    {"gemma3", R"({"vision_config": {"patch_size": 0}})", "patch_size"},
    {"gemma3", R"({"text_config": {"num_hidden_layers": 1000000000}})",
     "config.json: text_config: 'num_hidden_layers' must be at most 10000"},
    {"gemma3", R"({"vision_config": {"num_hidden_layers": 1000000000}})",
     "'num_hidden_layers' must be at most 10000"},
    {"gemma3n", R"({"audio_config": {"conf_num_hidden_layers": 12000}})",
     "'conf_num_hidden_layers' must be at most 10000"},
    {"qwen2_vl", R"({"vision_config": {"depth": 1000000000}})", "'depth' must be at most 10000"},
    {"gemma3", R"({"vision_config": {"patch_size": 999}})", "patch_size"},
    {"gemma3", R"({"vision_config": {"num_attention_heads": 5}})", "num_attention_heads"},
    {"gemma3", R"({"vision_config": {"hidden_act": "wink"}})", "wink"},
    {"gemma3", R"({"vision_config": {"vision_use_head": true}})", "vision_use_head"},
    {"gemma3", R"({"vision_config": {"eyes": 2}})", "eyes"},
    {"gemma3", R"({"text_config": null})", "text_config"},
    {"gemma3", R"({"eyes": 2})", "eyes"},
    {"paligemma", R"({"text_config": {"model_type": "ghost"}})", "ghost"},
    {"idefics3", R"({"scale_factor": 3})", "scale_factor"},
    {"idefics3", R"({"text_config": {"qk_layer_norms": true}})", "qk_layer_norms"},
    {"smolvlm", R"({"vision_config": {"image_size": -1}})", "image_size"},
    {"qwen2_vl", R"({"vision_config": {"embed_dim": 36}})", "embed_dim"},
    {"qwen2_vl", R"({"vision_config": {"hidden_size": 64}})", "the text model takes"},
    {"qwen2_vl", R"({"vision_config": {"mlp_ratio": -1}})", "mlp_ratio"},
    {"qwen2_vl", R"({"eyes": 2})", "eyes"},
    {"qwen2_vl", R"({"rope_scaling": {"mrope_section": [1, 2]}})", "mrope_section"},
    {"qwen2_5_vl", R"({"vision_config": {"window_size": 14}})", "window_size"},
    {"qwen2_5_vl", R"({"vision_config": {"spatial_merge_size": 0}})", "spatial_merge_size"},
};
INSTANTIATE_TEST_SUITE_P(All, BadConfig, ::testing::ValuesIn(kCases));

TEST(NumberWords, AsNum2words) {
  EXPECT_EQ(number_words(0), "zero");
  EXPECT_EQ(number_words(13), "thirteen");
  EXPECT_EQ(number_words(40), "forty");
  EXPECT_EQ(number_words(64), "sixty-four");
  EXPECT_EQ(number_words(100), "one hundred");
  EXPECT_EQ(number_words(105), "one hundred and five");
  EXPECT_EQ(number_words(999), "nine hundred and ninety-nine");
  EXPECT_EQ(number_words(1000), "1000");
}

}  // namespace
}  // namespace mlxcpp::vlm

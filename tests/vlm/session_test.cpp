// A conversation about pictures: what was seen is not looked at again, and answers are those of a
// fresh start.
#include <gtest/gtest.h>

#include "../support/unpacked_fixture.h"
#include "lm_common/chat_session.h"
#include "tests/support/paths.h"
#include "tests/support/throws.h"
#include "vlm/registry.h"
#include "vlm/vision_language_model.h"

namespace mlxcpp::vlm {
namespace {

namespace fs = std::filesystem;

const fs::path kFixture = test::golden_folder() / "vlm" / "qwen2_vl";

std::shared_ptr<ModelContainer> container() {
  const test::UnpackedFixture fixture(kFixture);
  return std::make_shared<ModelContainer>(
      [&] { return load_model_context({.folder = fixture.path(), .gguf = {}}, model_types()); },
      ContainerOptions{.precision = kernels::Precision::exact});
}

chat::Message showing(std::string text, std::vector<fs::path> images) {
  chat::Message m = chat::user(std::move(text));
  m.images = std::move(images);
  return m;
}

TEST(Session, APictureIsEncodedOnce) {
  container()->update([](ModelContext& context) {
    const auto& model = dynamic_cast<const VisionLanguageModel&>(*context.model);
    int looks = 0;
    const auto* tower = &context.model->at("visual");
    const nn::ObserverScope scope(
        [&](const nn::Module& m, const mx::array&) { looks += &m == tower; });
    FeatureCache features;
    const auto look = [&](std::vector<fs::path> images, size_t cached = 0) {
      const LMInput input = context.prepare(Chat{showing("What?", std::move(images))});
      looks = 0;
      model.prepare(input, cached, &features);
      return looks;
    };
    EXPECT_EQ(look({kFixture / "image0.png"}), 1);
    EXPECT_EQ(look({kFixture / "image0.png"}), 0);
    EXPECT_EQ(look({kFixture / "image0.png", kFixture / "image1.png"}), 1);
    EXPECT_EQ(look({kFixture / "image1.png", kFixture / "image0.png"}), 0);
    features.clear();
    const LMInput input = context.prepare(Chat{showing("What?", {kFixture / "image0.png"})});
    EXPECT_EQ(look({kFixture / "image0.png"}, input.media[0].end), 0) << "it is in the caches";
    EXPECT_EQ(look({kFixture / "image0.png"}), 1);
  });
}

// transformers 5 leaves out a level of the tower's names where it saves a model that it made.
TEST(Checkpoints, TheTowerHasTwoSpellings) {
  for (const char* name : {"gemma3", "paligemma"}) {
    const fs::path folder = test::golden_folder() / "vlm" / name;
    Checkpoint published = golden::load_fixture_checkpoint(folder), saved = published;
    saved.weights.clear();
    constexpr std::string_view kLevel = "vision_tower.vision_model.";
    size_t renamed = 0;
    for (const auto& [key, w] : published.weights) {
      const bool tower = key.starts_with(kLevel);
      renamed += tower;
      saved.weights.emplace(tower ? "vision_tower." + key.substr(kLevel.size()) : key, w);
    }
    EXPECT_GT(renamed, 10u) << name;
    const auto one = make_language_model(std::move(published), model_types());
    const auto other = make_language_model(std::move(saved), model_types());
    const auto want = one->parameters(), got = other->parameters();
    ASSERT_EQ(got.size(), want.size()) << name;
    for (const auto& [key, w] : want)
      EXPECT_TRUE(mx::array_equal(got.at(key), w).item<bool>()) << name << ' ' << key;
  }
}

// What transformers 5 adds to config.json where it saves a model.
TEST(Checkpoints, ConfigsAsTransformers5SavesThem) {
  const auto made = [](const char* name, const char* change) {
    const Json config = read_json(test::golden_folder() / "vlm" / name / "config.json");
    model_types().make(config.patch(Json::parse(change)));
  };
  for (const char* name : {"qwen2_vl", "qwen2_5_vl"}) {
    made(name, R"([{"op": "add", "path": "/vision_config/rope_parameters",
                    "value": {"rope_theta": 10000.0, "rope_type": "axial"}}])");
    EXPECT_THAT(test::error_of([&] {
                  made(name, R"([{"op": "add", "path": "/vision_config/rope_parameters",
                                  "value": {"rope_theta": 500.0, "rope_type": "axial"}}])");
                }),
                ::testing::HasSubstr("vision_config: rope_parameters: 'rope_theta'"));
  }
  for (const char* name : {"idefics3", "smolvlm"})
    made(name, R"([{"op": "add", "path": "/_pad_token_id", "value": 2}])");
}

TEST(Session, AnswersAreThoseOfAFreshStart) {
  const GenerateParameters parameters{.max_tokens = 6, .temperature = 0, .ignore_eos = true};
  const auto answer = [&](ChatSession& session, chat::Message message, GenerationInfo* info) {
    std::string text;
    for (const Generation& g : session.stream(std::move(message))) {
      if (g.chunk()) text += *g.chunk();
      if (g.info()) *info = *g.info();
    }
    return text;
  };
  const auto model = container();
  GenerationInfo first, second, fresh;
  ChatSession session(model, {.parameters = parameters});
  answer(session, showing("What is this?", {kFixture / "image0.png"}), &first);
  EXPECT_EQ(first.cached_tokens, 0);
  const Chat before = session.history();
  const auto next = showing("And this?", {kFixture / "image1.png"});
  const std::string with = answer(session, next, &second);
  const size_t picture = model
                             ->perform([&](ModelContext& context) {
                               return context.prepare(Chat{before.front()}).media.at(0).end;
                             })
                             .get();
  EXPECT_GE(static_cast<size_t>(second.cached_tokens), picture) << "it lies in the caches";

  ChatSession other(model, {.parameters = parameters, .history = before});
  EXPECT_EQ(answer(other, next, &fresh), with);
  EXPECT_EQ(fresh.cached_tokens, 0);
  EXPECT_EQ(fresh.prompt_tokens, second.prompt_tokens);
}

// Nothing piles up from one picture to the next.
TEST(Session, TheTwentiethPicturePeaksAsTheFirst) {
  container()->update([](ModelContext& context) {
    const auto& model = dynamic_cast<const VisionLanguageModel&>(*context.model);
    const auto peak = [&] {
      mx::clear_cache();
      mx::reset_peak_memory();
      const LMInput input = context.prepare(Chat{showing("What?", {kFixture / "image0.png"})});
      const PreparedPrompt prompt = model.prepare(input, 0, nullptr);
      mx::eval(prompt.embeddings.value());
      return mx::get_peak_memory();
    };
    peak();  // the weights are read
    // The threads' timing moves a peak a little, so a few are taken at both ends.
    std::vector<size_t> peaks;
    for (int i = 0; i < 20; ++i) peaks.push_back(peak());
    EXPECT_LE(*std::min_element(peaks.end() - 5, peaks.end()),
              *std::max_element(peaks.begin(), peaks.begin() + 5));
  });
}

// The same words about another picture are another prompt.
TEST(Session, AnotherPictureIsNotTakenForTheFirst) {
  container()->update([](ModelContext& context) {
    const LMInput a = context.prepare(Chat{showing("What?", {kFixture / "image0.png"})});
    const LMInput b = context.prepare(Chat{showing("What?", {kFixture / "image1.png"})});
    EXPECT_EQ(a.tokens, b.tokens);
    EXPECT_NE(a.media[0].key, b.media[0].key);
    UserInput smaller(Chat{showing("What?", {kFixture / "image0.png"})});
    smaller.media.resize = {40, 40};
    EXPECT_NE(context.prepare(smaller).media[0].key, a.media[0].key);
  });
}

}  // namespace
}  // namespace mlxcpp::vlm

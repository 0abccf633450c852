// llm-tool as its users run it, with small models that see: from files to the tokens that the
// Python pipeline gives, and what is refused.
#include <sys/wait.h>

#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../support/unpacked_fixture.h"
#include "core/atomic_file.h"
#include "core/json.h"
#include "tests/support/paths.h"
#include "tests/support/shell.h"

namespace mlxcpp {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const fs::path kGolden = test::golden_folder();

class LlmTool : public ::testing::Test {
 protected:
  test::Outcome run(const std::string& arguments, const std::string& before = "") const {
    return test::shell(fmt::format("{} '{}' {}", before, test::tool("llm-tool"), arguments),
                       folder);
  }
  static std::string options(const fs::path& model) {
    return fmt::format("--model '{}' --temperature 0 -m 16 --precision exact --json -q",
                       model.string());
  }

  test::TempFolder folder;
};

// An answer, which an end of sequence may cut short, against the greedy tokens, which none does.
void expect_begins(const Json& greedy, const std::string& report) {
  const Json tokens = Json::parse(report).at("tokens");
  ASSERT_GE(tokens.size(), 8U);
  ASSERT_LE(tokens.size(), greedy.size());
  for (size_t i = 0; i < tokens.size(); ++i) EXPECT_EQ(tokens[i], greedy[i]) << "token " << i;
}

TEST_F(LlmTool, FilesToTheTokensOfThePythonPipeline) {
  for (const char* name :
       {"gemma3", "idefics3", "paligemma", "qwen2_5_vl", "qwen2_vl", "smolvlm"}) {
    const fs::path fixture = kGolden / "vlm" / name;
    const test::UnpackedFixture model(fixture);
    const Json golden = read_json(fixture / "golden.json");
    for (const Json& one : golden.at("cases")) {
      if (!one.at("video_frames").empty()) continue;  // no file, but its frames
      std::string arguments = options(model.path());
      for (const std::string image : one.at("images"))
        arguments += fmt::format(" --image '{}'", (fixture / image).string());
      std::string prompt = one.at("prompt");
      if (!one.at("messages").is_null())
        prompt = one.at("messages").back().at("content").back().at("text");
      else
        prompt = prompt.substr(prompt.rfind('>') + 1);
      SCOPED_TRACE(one.at("name"));
      const auto outcome = run(arguments + fmt::format(" --prompt '{}'", prompt));
      ASSERT_EQ(outcome.status, 0) << outcome.error;
      expect_begins(one.at("greedy"), outcome.out);
    }
  }
}

TEST_F(LlmTool, SoundsToTheTokensOfThePythonPipeline) {
  const fs::path fixture = kGolden / "vlm" / "gemma3n";
  const test::UnpackedFixture model(fixture);
  const Json golden = read_json(fixture / "golden.json");
  for (const Json& one : golden.at("cases")) {
    if (one.at("audio").size() > 1) continue;  // with text between them
    std::string arguments = options(model.path());
    for (const std::string image : one.at("images"))
      arguments += fmt::format(" --image '{}'", (fixture / image).string());
    for (const std::string sound : one.at("audio"))
      arguments += fmt::format(" --audio '{}'", (fixture / sound).string());
    const std::string prompt = one.at("messages").back().at("content").back().at("text");
    SCOPED_TRACE(one.at("name"));
    const auto outcome = run(arguments + fmt::format(" --prompt '{}'", prompt));
    ASSERT_EQ(outcome.status, 0) << outcome.error;
    EXPECT_EQ(Json::parse(outcome.out).at("prompt_tokens"), one.at("num_tokens"));
    expect_begins(one.at("greedy"), outcome.out);
  }
}

TEST_F(LlmTool, FilmsToTheTokensOfThePythonPipeline) {
  for (const char* name : {"qwen2_5_vl", "qwen2_vl", "smolvlm"}) {
    const fs::path fixture = kGolden / "vlm" / name;
    const test::UnpackedFixture model(fixture);
    const Json golden = read_json(fixture / "golden.json");
    for (const Json& one : golden.at("films")) {
      const auto outcome =
          run(fmt::format("{} --video '{}' --prompt '{}'", options(model.path()),
                          (kGolden / "clips" / one.at("file").get<std::string>()).string(),
                          one.at("prompt").get<std::string>()));
      ASSERT_EQ(outcome.status, 0) << outcome.error;
      const Json report = Json::parse(outcome.out);
      EXPECT_EQ(report.at("prompt_tokens"), one.at("num_tokens"));
      expect_begins(one.at("greedy"), outcome.out);
    }
  }
}

TEST_F(LlmTool, APictureFromStandardInput) {
  const fs::path fixture = kGolden / "vlm" / "qwen2_vl";
  const test::UnpackedFixture model(fixture);
  const std::string ask = options(model.path()) + " --prompt 'What is in this picture?' --image ";
  const auto file = run(ask + "'" + (fixture / "image0.png").string() + "'");
  const auto piped = run(ask + "-", "cat '" + (fixture / "image0.png").string() + "' |");
  ASSERT_EQ(file.status, 0) << file.error;
  ASSERT_EQ(piped.status, 0) << piped.error;
  EXPECT_EQ(Json::parse(piped.out).at("tokens"), Json::parse(file.out).at("tokens"));
  const auto smaller = run(ask + "'" + (fixture / "image0.png").string() + "' --resize 8");
  ASSERT_EQ(smaller.status, 0) << smaller.error;
  EXPECT_NE(Json::parse(smaller.out).at("tokens"), Json::parse(file.out).at("tokens"));
}

TEST_F(LlmTool, MediaForAModelOfText) {
  const test::UnpackedFixture seeing(kGolden / "vlm" / "gemma3");
  const auto image = (seeing.path() / "image0.png").string();
  // The same files without the tower's weights are a model of text.
  auto weights = load_safetensors(seeing.path() / "model.safetensors");
  std::erase_if(weights, [](const auto& w) { return !w.first.starts_with("language_model."); });
  test::TempFolder text;
  for (const auto& entry : fs::directory_iterator(seeing.path()))
    if (entry.path().extension() != ".safetensors")
      fs::copy_file(entry.path(), text / entry.path().filename());
  write_safetensors(text / "model.safetensors", weights, {});
  const auto outcome = run(options(text.path()) + " --prompt Hi --image '" + image + "'");
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.error, HasSubstr("this model takes text only"));
  EXPECT_EQ(run(options(text.path()) + " --prompt Hi").status, 0);
}

TEST_F(LlmTool, RefusedBeforeTheModelIsLoaded) {
  const std::string model = "--model '" + (folder / "none").string() + "' ";
  EXPECT_THAT(run(model + "--image none.png --prompt Hi").error, HasSubstr("none.png"));
  EXPECT_THAT(run(model + "--image - --image - --prompt Hi").error, HasSubstr("standard input"));
  EXPECT_EQ(run(model + "--raw --image none.png --prompt Hi").status, 2);
  EXPECT_EQ(run(model + "--resize 0 --prompt Hi").status, 2);
}

TEST_F(LlmTool, ChatShowsPictures) {
  const fs::path fixture = kGolden / "vlm" / "gemma3";
  const test::UnpackedFixture model(fixture);
  const std::string image = (fixture / "image0.png").string();
  const auto script = folder.write(
      "script", "/image " + image + "\n/image none.png\nWhat is in this picture?\nAnd now?\n");
  const auto outcome = run("chat --model '" + model.path().string() + "' --temperature 0 -m 4 -q",
                           "<'" + script.string() + "'");
  EXPECT_EQ(outcome.status, 0) << outcome.error;
  EXPECT_THAT(outcome.out, HasSubstr("with the next message: 1 pictures"));
  EXPECT_THAT(outcome.out, HasSubstr("none.png"));
}

TEST_F(LlmTool, ListsAndConfiguration) {
  const auto vlms = run("list vlms");
  EXPECT_EQ(vlms.status, 0);
  EXPECT_THAT(vlms.out, HasSubstr("mlx-community/Qwen2.5-VL-3B-Instruct-4bit"));
  EXPECT_THAT(vlms.out, HasSubstr("paligemma"));
  const test::UnpackedFixture model(kGolden / "vlm" / "gemma3");
  const auto config = run("eval --list-config --model '" + model.path().string() + "'");
  EXPECT_EQ(config.status, 0) << config.error;
  EXPECT_THAT(config.out, HasSubstr("siglip_vision_model"));
  EXPECT_THAT(config.out, HasSubstr("bilinear"));
  const fs::path file = model.path() / "config.json";
  Json odd = read_json(file);
  odd["vision_config"]["model_type"] = 3;
  fs::permissions(file, fs::perms::owner_write, fs::perm_options::add);
  write_file(file, odd.dump());
  EXPECT_THAT(run("eval --list-config --model '" + model.path().string() + "'").error,
              HasSubstr("config.json: vision_config: 'model_type' must be a string, found the"));
}

// Whatever loading refuses, --list-config does.
TEST_F(LlmTool, ConfigurationsThatCannotBe) {
  const test::UnpackedFixture model(kGolden / "llm" / "llama");
  const std::string there = " --model '" + model.path().string() + "'";
  const auto listed = run("--list-config" + there);
  EXPECT_EQ(listed.status, 0) << listed.error;
  const fs::path file = model.path() / "config.json";
  const Json config = read_json(file);
  fs::permissions(file, fs::perms::owner_write, fs::perm_options::add);
  const std::vector<std::pair<std::string, Json>> changes{
      {"vocab_size", 1e308}, {"vocab_size", 8}, {"hidden_size", -1}, {"hidden_act", 1}};
  for (const auto& [key, value] : changes) {
    SCOPED_TRACE(key);
    Json odd = config;
    odd[key] = value;
    write_file(file, odd.dump());
    const auto refused = run("--list-config" + there);
    EXPECT_EQ(refused.status, 1);
    EXPECT_EQ(refused.out, "");
    EXPECT_NE(refused.error, "");
    EXPECT_THAT(run("--quiet --raw --prompt Hi" + there).error, refused.error);
  }
}

}  // namespace
}  // namespace mlxcpp

// What the golden runner makes of fixtures that are not as they should be, or lie elsewhere.
#include <cmath>

#include "golden/kinds.h"
#include "golden/runner.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"
#include "tests/support/throws.h"
#include "weights/safetensors.h"

namespace mlxcpp::golden {
namespace {

using ::testing::HasSubstr;
using Tensors = std::map<std::string, mx::array>;

class GoldenRunner : public ::testing::Test {
 protected:
  // A copy of the fixture in a folder that says nothing of its kind.
  fs::path copy(const std::string& fixture) const {
    const fs::path to = folder / "seen_never" / fs::path(fixture).filename();
    fs::create_directories(to.parent_path());
    fs::copy(test::golden_folder() / fixture, to, fs::copy_options::recursive);
    return to;
  }
  Result run_all(Result::Status status) const {
    const auto all = find_fixtures({folder.path()});
    EXPECT_EQ(all.size(), 1u);
    Result result = run(all.at(0), {});
    EXPECT_EQ(result.status, status) << result.reason;
    return result;
  }
  Result failed() const { return run_all(Result::Status::failed); }

  static void change(const fs::path& file, const std::function<void(Tensors&)>& f) {
    Tensors tensors;
    for (const auto& [name, a] : load_safetensors(file))  // copied: the file is replaced
      tensors.emplace(name, mx::array(a) + mx::zeros({}, a.dtype()));
    for (auto& [name, a] : tensors) a.eval();
    f(tensors);
    write_safetensors(file, tensors);
  }
  static void change_json(const fs::path& file, const std::function<void(Json&)>& f) {
    Json json = read_json(file);
    f(json);
    std::ofstream(file) << json.dump();
  }

  test::TempFolder folder;
};

TEST_F(GoldenRunner, FixturesThatLieAnywhere) {
  copy("llm/llama");
  copy("llm/llama-lora");  // beside its base
  const fs::path golden = test::golden_folder(), caches = folder / "seen_never/caches";
  fs::create_directories(caches);
  for (const char* extension : {".json", ".safetensors"}) {
    fs::copy(golden / "cache" / (std::string("llama") + extension), caches);
    fs::copy(golden / (std::string("sampling") + extension),
             caches / (std::string("samplers") + extension));
  }
  // Its model lies by name from two folders up.
  change_json(caches / "llama.json", [](Json& j) { j["model"] = "llama"; });

  std::vector<std::string> kinds;
  for (const Fixture& fixture : find_fixtures({folder.path()})) {
    ASSERT_NE(fixture.kind, nullptr) << fixture.path;
    kinds.emplace_back(fixture.kind->name);
    const Result result = run(fixture, {});
    EXPECT_EQ(result.status, Result::Status::passed) << fixture.path << ": " << result.reason;
  }
  EXPECT_THAT(kinds, ::testing::UnorderedElementsAre("llm", "adapter", "cache", "sampling"));
}

// As transformers 5 writes what older files say with other keys.
TEST_F(GoldenRunner, NewerConfigurationOfModernBert) {
  const auto at = copy("embedders/modernbert");
  change_json(at / "config.json", [](Json& j) {
    for (const char* key : {"global_attn_every_n_layers", "global_rope_theta", "local_rope_theta"})
      j.erase(key);
    j["layer_types"] = {"full_attention", "sliding_attention"};
    j["rope_parameters"]["full_attention"] = {{"rope_type", "default"}, {"rope_theta", 160000.0}};
    j["rope_parameters"]["sliding_attention"] = {{"rope_type", "default"}, {"rope_theta", 10000.0}};
  });
  run_all(Result::Status::passed);
}

TEST_F(GoldenRunner, AnUnsupportedTypeFails) {
  const auto at = copy("llm/llama");
  change_json(at / "config.json", [](Json& j) { j["model_type"] = "lama9"; });
  EXPECT_THAT(failed().reason, HasSubstr("lama9"));
}

TEST_F(GoldenRunner, AnUnknownKindFails) {
  fs::create_directories(folder / "strange");
  folder.write("strange/golden.json", "{}");
  EXPECT_THAT(failed().reason, HasSubstr("not supported"));
}

TEST_F(GoldenRunner, AnOutputThatIsNotComparedFails) {
  const auto at = copy("llm/llama");
  change(at / "golden.safetensors", [](Tensors& t) { t.emplace("attentions", mx::zeros({2})); });
  EXPECT_THAT(failed().reason, HasSubstr("attentions: in golden.safetensors, but not compared"));
}

TEST_F(GoldenRunner, AMissingKeyFails) {
  const auto at = copy("llm/llama");
  change(at / "golden.safetensors", [](Tensors& t) { t.erase("generated"); });
  EXPECT_THAT(failed().reason, HasSubstr("'generated' is missing"));
}

TEST_F(GoldenRunner, MissingFilesFail) {
  const auto at = copy("llm/llama");
  fs::remove(at / "golden.json");
  EXPECT_THAT(failed().reason, HasSubstr("golden.json"));
  fs::remove(at / "golden.safetensors");
  fs::copy(test::golden_folder() / "llm/llama/golden.json", at / "golden.json");
  EXPECT_THAT(failed().reason, HasSubstr("golden.safetensors"));
}

TEST_F(GoldenRunner, EmptyFolders) {
  EXPECT_THAT(test::error_of([&] { find_fixtures({folder.path()}); }), HasSubstr("empty folder"));
  EXPECT_THAT(test::error_of([&] { find_fixtures({folder / "none"}); }), HasSubstr("no such"));
  folder.write("notes.txt", "none here");
  EXPECT_THAT(test::error_of([&] { find_fixtures({folder.path()}); }), HasSubstr("no golden"));
  fs::create_directories(folder / "llm/llama");
  EXPECT_THAT(failed().reason, HasSubstr("empty folder"));
}

TEST_F(GoldenRunner, ANaNIsTheLargestDifference) {
  const auto at = copy("llm/llama");
  change(at / "golden.safetensors", [](Tensors& t) {
    auto& logits = t.at("logits");
    const auto first = mx::arange(static_cast<int>(logits.size())) == mx::array(0);
    logits = mx::where(mx::reshape(first, logits.shape()), mx::array(std::nanf("")), logits);
    logits.eval();
  });
  const Result result = failed();
  EXPECT_TRUE(std::isnan(result.max_abs()) && std::isnan(result.max_rel()));
  EXPECT_THAT(result.reason, HasSubstr("largest difference nan"));
}

TEST_F(GoldenRunner, NumbersAndTokensThatDiffer) {
  const auto at = copy("llm/llama");
  change(at / "golden.safetensors",
         [](Tensors& t) { t.at("logits") = t.at("logits") + mx::array(0.01f); });
  EXPECT_THAT(failed().reason, HasSubstr("logits"));
  fs::remove_all(at);
  copy("llm/llama");
  change(at / "golden.safetensors", [](Tensors& t) {
    auto& generated = t.at("generated");
    generated = mx::maximum(mx::array(1), generated - mx::array(1));
  });
  EXPECT_THAT(failed().reason, HasSubstr("generated"));
  fs::remove_all(at);
  copy("llm/llama");
  change(at / "golden.safetensors",
         [](Tensors& t) { t.at("generated_margin") = mx::zeros_like(t.at("generated_margin")); });
  EXPECT_THAT(failed().reason, HasSubstr("none of"));
}

}  // namespace
}  // namespace mlxcpp::golden

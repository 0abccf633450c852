#include "hub/model_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "hub/digest.h"
#include "hub/fake_hub.h"

namespace mlxcpp::test {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A fake hub, found by way of the environment as a user sets it.
class ModelSourceTest : public ::testing::Test {
 protected:
  std::string error(const std::string& reference, const DownloadOptions& options = {}) {
    return error_of([&] { resolve_model(reference, options); });
  }

  TemporaryFolder folder;
  FakeHub hub;
  Environment environment{{{"HF_ENDPOINT", hub.url() + "/"},
                           {"HF_HOME", folder.path / "home"},
                           {"HF_HUB_CACHE", std::nullopt},
                           {"HUGGINGFACE_HUB_CACHE", std::nullopt},
                           {"HF_TOKEN", std::nullopt},
                           {"HUGGING_FACE_HUB_TOKEN", std::nullopt},
                           {"HF_TOKEN_PATH", std::nullopt},
                           {"HF_HUB_OFFLINE", std::nullopt},
                           {"TRANSFORMERS_OFFLINE", std::nullopt},
                           {"MLXCPP_CACHE", folder.path / "cache"}}};
};

TEST_F(ModelSourceTest, Folders) {
  write_file(folder.path / "a" / "config.json", "{}");
  write_file(folder.path / "a" / "model.safetensors", "");
  write_file(folder.path / "a" / "model.gguf", "");
  const ModelFiles a = resolve_model((folder.path / "a").string());
  EXPECT_EQ(a.folder, folder.path / "a");
  EXPECT_TRUE(a.gguf.empty());

  write_file(folder.path / "b" / "mmproj-model.gguf", "");
  write_file(folder.path / "b" / "model.gguf", "");
  write_file(folder.path / "b" / "params.json", "{}");
  EXPECT_THAT(resolve_model((folder.path / "b").string()).gguf,
              ElementsAre(folder.path / "b" / "model.gguf"));

  write_file(folder.path / "c" / "x.gguf", "");
  write_file(folder.path / "c" / "y.gguf", "");
  EXPECT_THAT(error((folder.path / "c").string()),
              AllOf(HasSubstr("2 .gguf models"), HasSubstr("x.gguf, y.gguf")));
  fs::create_directories(folder.path / "d");
  EXPECT_THAT(error((folder.path / "d").string()), HasSubstr("no model in this folder"));
}

TEST_F(ModelSourceTest, GgufFilesAndTheirParts) {
  write_file(folder.path / "m.gguf", "");
  const ModelFiles one = resolve_model((folder.path / "m.gguf").string());
  EXPECT_THAT(one.gguf, ElementsAre(folder.path / "m.gguf"));
  EXPECT_EQ(one.folder, folder.path);

  const auto part = [&](int i) {
    return folder.path / ("big-0000" + std::to_string(i) + "-of-00003.gguf");
  };
  write_file(part(1), "");
  write_file(part(3), "");
  EXPECT_THAT(error(part(3).string()),
              AllOf(HasSubstr("big-00002-of-00003.gguf"), HasSubstr("missing")));
  write_file(part(2), "");
  EXPECT_THAT(resolve_model(part(3).string()).gguf, ElementsAre(part(1), part(2), part(3)));

  write_file(folder.path / "notes.txt", "");
  EXPECT_THAT(error((folder.path / "notes.txt").string()),
              HasSubstr("expected a folder or a .gguf"));
}

TEST_F(ModelSourceTest, NamesThatAreNothing) {
  EXPECT_THAT(error(""), HasSubstr("expected"));
  EXPECT_THAT(error("/no/such/folder"), HasSubstr("no such file or folder"));
  EXPECT_THAT(error("./no"), HasSubstr("no such file or folder"));
  for (const std::string bad : {"llama", "a/b/c", "org/na me", "org/x--y", "org/..", "org/x.gguf",
                                "org/model@", "org/model:", "org/model/f.gguf:Q4", "-x/y"})
    EXPECT_THAT(error(bad), AllOf(HasSubstr(bad), HasSubstr("org/name"))) << bad;
  EXPECT_THAT(error("org/model@"),
              HasSubstr("a revision is expected after '@' (org/name@revision), found nothing"));
  for (const std::string revision :
       {" main", "my branch", "..", "a/../b", "a..b", "/abs", "a~1", "a@{1}", "a:b"})
    EXPECT_THAT(error("org/model@" + revision),
                AllOf(HasSubstr(revision), HasSubstr("cannot be a revision")));
  EXPECT_TRUE(hub.requests().empty());
  EXPECT_THAT(error("org/other"), AllOf(HasSubstr("no such folder here"), HasSubstr(hub.url())));
  EXPECT_TRUE(hub.count("GET", "/api/") == 1);
}

TEST_F(ModelSourceTest, APathWinsOverTheHub) {
  const fs::path before = fs::current_path();
  write_file(folder.path / "org" / "model" / "config.json", "{}");
  fs::current_path(folder.path);
  EXPECT_EQ(resolve_model("org/model").folder, "org/model");
  fs::current_path(before);
  EXPECT_TRUE(hub.requests().empty());
}

TEST_F(ModelSourceTest, HubModels) {
  hub.add("config.json", "{}", false);
  hub.add("model.safetensors", "w", true);
  hub.add("pickle.bin", "no", true);
  const ModelFiles files = resolve_model("org/model");
  EXPECT_EQ(files.folder,
            folder.path / "home" / "hub" / "models--org--model" / "snapshots" / hub.commit);
  EXPECT_TRUE(files.gguf.empty());
  EXPECT_FALSE(fs::exists(files.folder / "pickle.bin"));
  EXPECT_EQ(resolve_model("org/model@" + hub.commit).folder, files.folder);
  DownloadOptions options;
  options.patterns = {"*.onnx"};
  EXPECT_THAT(error("org/model", options),
              AllOf(HasSubstr("none of its 3 files"), HasSubstr("*.onnx")));
}

TEST_F(ModelSourceTest, TheEnvironmentCounts) {
  hub.add("model.safetensors", "w", true);
  write_file(folder.path / "home" / "token", "hf_file\n");
  const fs::path cache = folder.path / "elsewhere";
  const Environment more("HF_HUB_CACHE", cache);
  EXPECT_TRUE(resolve_model("org/model").folder.string().starts_with(cache.string()));
  EXPECT_EQ(hub.requests().at(0).header("authorization"), "Bearer hf_file");
  {
    const Environment token("HF_TOKEN", " hf_set ");
    resolve_model("org/model");
    EXPECT_EQ(hub.requests().back().header("authorization"), "Bearer hf_set");
  }
  DownloadOptions own;
  own.cache = folder.path / "own";
  EXPECT_TRUE(resolve_model("org/model", own).folder.string().starts_with(own.cache.string()));
  const size_t before = hub.requests().size();
  const Environment offline("HF_HUB_OFFLINE", "yes");
  resolve_model("org/model");
  EXPECT_THAT(error("org/other"), AllOf(HasSubstr("offline"), HasSubstr(cache.string())));
  EXPECT_EQ(hub.requests().size(), before);
  const Environment wrong("HF_ENDPOINT", "ftp://x");
  EXPECT_THAT(error("org/model"), AllOf(HasSubstr("HF_ENDPOINT"), HasSubstr("ftp://x")));
}

TEST_F(ModelSourceTest, GgufOnTheHub) {
  hub.add("config.json", "{}", false);
  hub.add("m-Q4_K_M.gguf", "4", true);
  hub.add("m-Q4_K_S.gguf", "s", true);
  hub.add("mmproj-m-Q8_0.gguf", "p", true);
  hub.add("big/m-Q8_0-00001-of-00002.gguf", "a", true);
  hub.add("big/m-Q8_0-00002-of-00002.gguf", "b", true);
  const auto names = [](const ModelFiles& files) {
    std::vector<std::string> list;
    for (const fs::path& f : files.gguf) list.push_back(f.filename().string());
    return list;
  };
  EXPECT_THAT(names(resolve_model("org/model/m-Q4_K_S.gguf")), ElementsAre("m-Q4_K_S.gguf"));
  EXPECT_THAT(names(resolve_model("org/model:q4_k_m@main")), ElementsAre("m-Q4_K_M.gguf"));
  const ModelFiles split = resolve_model("org/model:Q8_0");
  EXPECT_THAT(names(split),
              ElementsAre("m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf"));
  EXPECT_EQ(split.folder.filename(), "big");
  EXPECT_EQ(hub.count("GET", "/storage/m-"), 2);
  EXPECT_THAT(error("org/model:Q4"),
              AllOf(HasSubstr("no .gguf models suit 'Q4'"), HasSubstr("m-Q4_K_M.gguf")));
  EXPECT_THAT(error("org/model"), HasSubstr("3 .gguf models suit"));
  EXPECT_THAT(error("org/model/x.gguf"), HasSubstr("no file 'x.gguf'"));
  const Environment offline("HF_HUB_OFFLINE", "1");
  EXPECT_THAT(names(resolve_model("org/model:Q4_K_M")), ElementsAre("m-Q4_K_M.gguf"));
}

TEST_F(ModelSourceTest, TheOnlyGgufOfAModelIsTaken) {
  hub.add("README.md", "", false);
  hub.add("m.gguf", "4", true);
  EXPECT_EQ(resolve_model("org/model").gguf.size(), 1u);
  DownloadOptions options;
  options.patterns = {"*.md"};  // asked for something else
  EXPECT_TRUE(resolve_model("org/model", options).gguf.empty());
}

}  // namespace
}  // namespace mlxcpp::test

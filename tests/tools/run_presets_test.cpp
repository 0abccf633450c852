// tests/scripts/run_presets.py, over a cache that holds one preset whole and one that is damaged.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "golden/fixture.h"
#include "lm_common/test_tokenizer.h"
#include "support/temp_folder.h"
#include "tests/support/paths.h"
#include "tests/support/shell.h"
#include "weights/safetensors.h"

namespace mlxcpp {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class RunPresets : public ::testing::Test {
 protected:
  // A tiny Llama in the place of a preset.
  fs::path put(const std::string& name) const {
    const fs::path repo = home / ("hub/models--mlx-community--" + name),
                   folder = repo / "snapshots/0123456789012345678901234567890123456789";
    fs::create_directories(folder);
    fs::create_directories(repo / "refs");
    std::ofstream(repo / "refs/main") << "0123456789012345678901234567890123456789";
    fs::copy(test::golden_folder() / "llm/llama/config.json", folder / "config.json");
    write_safetensors(folder / "model.safetensors",
                      golden::load_fixture_checkpoint(test::golden_folder() / "llm/llama").weights);
    testing::write_test_tokenizer(folder);
    return folder;
  }
  test::Outcome run() const {
    const fs::path tool = test::tool("llm-tool");
    return test::shell(
        fmt::format("HF_HOME='{}' python3 '{}' --tool '{}' --max-tokens 2", home.path().string(),
                    (test::golden_folder().parent_path() / "scripts/run_presets.py").string(),
                    tool.string()),
        scratch);
  }

  test::TempFolder home, scratch;
};

TEST_F(RunPresets, SaysWhichAnswered) {
  put("SmolLM-135M-Instruct-4bit");
  const test::Outcome outcome = run();
  EXPECT_EQ(outcome.status, 0) << outcome.out << outcome.error;
  EXPECT_THAT(outcome.out, HasSubstr("mlx-community/SmolLM-135M-Instruct-4bit: ok"));
  EXPECT_THAT(outcome.out, HasSubstr("1 ok, 0 failed, "));
}

TEST_F(RunPresets, SaysWhatFailed) {
  fs::resize_file(put("Qwen3-0.6B-4bit") / "model.safetensors", 100);
  const test::Outcome outcome = run();
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.out, HasSubstr("mlx-community/Qwen3-0.6B-4bit: failed"));
  EXPECT_THAT(outcome.out, HasSubstr("0 ok, 1 failed, "));
}

}  // namespace
}  // namespace mlxcpp

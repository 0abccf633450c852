// --adapter and the tools' options of llm-tool, as its users run it, on a tiny Llama.
#include <sys/wait.h>

#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "adapters/lora_adapter.h"
#include "golden/fixture.h"
#include "llm/registry.h"
#include "lm_common/model_context.h"
#include "lm_common/test_tokenizer.h"
#include "support/temp_folder.h"
#include "tests/support/paths.h"
#include "tests/support/shell.h"
#include "weights/safetensors.h"

namespace mlxcpp::adapters {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const fs::path kLlm = test::golden_folder() / "llm";

class AdapterOption : public ::testing::Test {
 protected:
  AdapterOption() {
    fs::copy(kLlm / "llama" / "config.json", folder / "config.json");
    write_safetensors(folder / "model.safetensors",
                      golden::load_fixture_checkpoint(kLlm / "llama").weights);
    mlxcpp::testing::write_test_tokenizer(folder.path());
  }

  test::Outcome run(const std::string& arguments, const std::string& before = "") const {
    return test::shell(fmt::format("{} XDG_STATE_HOME='{}' '{}' {}", before,
                                   scratch.path().string(), test::tool("llm-tool"), arguments),
                       scratch);
  }
  std::string model() const { return "--model '" + folder.path().string() + "' -t 0 -m 8 -q "; }
  static std::string adapter(const char* fixture) {
    return fmt::format("'{}' ", (kLlm / fixture / "adapter").string());
  }
  // Tokens of the answer to "Hello".
  Json tokens(const std::string& options) const {
    const test::Outcome outcome = run("eval " + model() + options + " --prompt Hello --json");
    EXPECT_EQ(outcome.status, 0) << outcome.error;
    return parse_json(outcome.out, "--json").at("tokens");
  }
  // The same without the tool.
  Json tokens_of(const char* fixture) const {
    ModelContext context =
        load_model_context(ModelFiles{.folder = folder.path()}, llm::model_types());
    if (fixture) LoraAdapter(kLlm / fixture / "adapter", context.config).load(*context.model);
    Caches caches = context.model->make_caches({});
    Json out = Json::array();
    for (const Generation& g :
         context.generate(context.prepare("Hello"), caches, {.max_tokens = 8, .temperature = 0}))
      if (g.token()) out.push_back(g.token()->id);
    return out;
  }

  test::TempFolder folder, scratch;
};

TEST_F(AdapterOption, IsOnTheAnswer) {
  const Json plain = tokens("");
  EXPECT_EQ(plain, tokens_of(nullptr));
  for (const char* fixture : {"llama-lora", "llama-dora", "llama-peft"}) {
    const Json with = tokens("--adapter " + adapter(fixture));
    EXPECT_EQ(with, tokens_of(fixture)) << fixture;
    EXPECT_NE(with, plain) << fixture;
  }
}

TEST_F(AdapterOption, IsOnATrace) {
  const auto logits = [&](const std::string& options) {
    const std::string file = (scratch / "trace.safetensors").string();
    const test::Outcome outcome = run("trace --model '" + folder.path().string() +
                                      "' --tokens 3,14,15 -o '" + file + "' " + options);
    EXPECT_EQ(outcome.status, 0) << outcome.error;
    return load_safetensors(file).at("logits");
  };
  ModelContext context =
      load_model_context(ModelFiles{.folder = folder.path()}, llm::model_types());
  LoraAdapter(kLlm / "llama-lora" / "adapter", context.config).load(*context.model);
  Caches none;
  const auto want =
      context.model->logits(context.model->hidden(mx::array({3, 14, 15}, {1, 3}), none));
  const auto with = logits("--adapter " + adapter("llama-lora"));
  EXPECT_TRUE(mx::allclose(with, want, 1e-4, 1e-4).item<bool>());
  EXPECT_FALSE(mx::allclose(logits(""), want, 1e-2, 1e-2).item<bool>());
}

TEST_F(AdapterOption, SwitchesInAChat) {
  const std::string lines =
      "printf 'Hello\\n/reset\\n/adapter two\\nHello\\n/reset\\n/adapter "
      "one\\nHello\\n/reset\\n/adapter\\nHello\\n' |";
  const test::Outcome chat = run("chat " + model() + "--adapter one=" + adapter("llama-lora") +
                                     "--adapter two=" + adapter("llama-dora"),
                                 lines);
  ASSERT_EQ(chat.status, 0) << chat.error;
  std::vector<std::string> parts;  // between the lines that tell the adapter
  for (size_t begin = 0; begin <= chat.out.size();) {
    const size_t end = std::min(chat.out.find("adapter: ", begin), chat.out.size());
    parts.push_back(chat.out.substr(begin, end - begin));
    if (parts.size() > 1) {
      const size_t line = parts.back().find('\n');
      parts.back().erase(0, line == std::string::npos ? line : line + 1);
    }
    begin = end + 1;
  }
  ASSERT_EQ(parts.size(), 4u) << chat.out;
  EXPECT_THAT(chat.out, HasSubstr("adapter: two (there are: one, two)"));
  EXPECT_THAT(chat.out, HasSubstr("adapter: none"));
  EXPECT_NE(parts[1], parts[0]);
  EXPECT_EQ(parts[2].substr(0, parts[0].size()), parts[0]);
  EXPECT_NE(parts[3], parts[0]);
}

TEST_F(AdapterOption, ThatDoesNotFitIsOneLine) {
  for (const std::string& options :
       {"--adapter " + adapter("qwen3_moe-lora"), std::string("--adapter /no/such/folder"),
        "--adapter a=" + adapter("llama-lora") + "--adapter b=" + adapter("llama-dora")}) {
    const test::Outcome outcome = run("eval " + model() + options + " --prompt Hello");
    EXPECT_EQ(outcome.status, 1) << options;
    EXPECT_EQ(std::count(outcome.error.begin(), outcome.error.end(), '\n'), 1) << outcome.error;
  }
}

// Not only the first, which is put on.
TEST_F(AdapterOption, EveryAdapterOfAChatIsChecked) {
  const test::Outcome outcome = run("chat " + model() + "--adapter one=" + adapter("llama-lora") +
                                        "--adapter two=" + adapter("qwen3_moe-lora"),
                                    "printf 'Hello\\n' |");
  EXPECT_EQ(outcome.status, 1) << outcome.out;
  EXPECT_THAT(outcome.error, HasSubstr("does not fit the model"));
}

TEST_F(AdapterOption, ToolsThatCannotBe) {
  scratch.write("bad.json", "{\"name\": \"not a list\"}");
  scratch.write("good.json", "[{\"name\": \"f\", \"parameters\": {\"type\": \"object\"}}]");
  const auto fault = [&](const std::string& options) {
    const test::Outcome outcome = run("eval " + model() + options + " --prompt Hello");
    EXPECT_EQ(outcome.status, 1) << options;
    return outcome.error;
  };
  const std::string file = "--tools-file '" + scratch.path().string();
  EXPECT_THAT(fault(file + "/bad.json'"), HasSubstr("expected a list of tools"));
  EXPECT_THAT(fault(file + "/none.json'"), HasSubstr("cannot be read"));
  EXPECT_THAT(fault(file + "/good.json'"), HasSubstr("does not say how it writes calls"));
  EXPECT_EQ(run("eval " + model() + file + "/good.json' --raw --prompt Hello").status, 2);
  EXPECT_THAT(fault("--tool calculate --tool calculate"), HasSubstr("twice"));
  EXPECT_EQ(
      run("eval " + model() + file + "/good.json' --tool-format mistral --prompt Hello").status, 0);
  EXPECT_EQ(run("eval " + model() + "--tool nothing --prompt Hello").status, 2);
}

}  // namespace
}  // namespace mlxcpp::adapters

// The real models: token ids of a hundred hard strings and the rendered prompts as transformers has
// them (golden/real, golden/README.md).
#include <gtest/gtest.h>

#include "core/json.h"
#include "support/real_model.h"
#include "support/temp_folder.h"
#include "tests/support/paths.h"
#include "text/gguf_vocabulary.h"
#include "text/tokenizer.h"

namespace mlxcpp {
namespace {

struct Model {
  const char* name;
  const char* reference;
  const char* golden;
};
class RealModel : public ::testing::TestWithParam<Model> {
 protected:
  void SetUp() override {
    const GgufFile file(test::real_model(GetParam().reference));
    tokenizer_ = Tokenizer::from_gguf(read_gguf_vocabulary(file));
    golden_ = read_json(test::golden_folder() / "real" / GetParam().golden);
  }
  std::shared_ptr<const Tokenizer> tokenizer_;
  Json golden_;
};

TEST_P(RealModel, TokenIds) {
  for (const Json& item : golden_["tokenize"])
    EXPECT_EQ(tokenizer_->encode(item["text"].get<std::string>(), false),
              item["ids"].get<std::vector<int>>())
        << item["text"];
}

TEST_P(RealModel, AsTokenizerJsonItIsTheSame) {
  const test::TempFolder folder;
  folder.write("tokenizer.json", tokenizer_->to_json());
  const auto again = Tokenizer::from_folder(folder.path());
  for (const Json& item : golden_["tokenize"]) {
    const auto text = item["text"].get<std::string>();
    EXPECT_EQ(again->encode(text), tokenizer_->encode(text)) << text;
    const auto ids = item["ids"].get<std::vector<int>>();
    EXPECT_EQ(again->decode(ids, true), tokenizer_->decode(ids, true)) << text;
  }
  for (const Json& run : golden_["runs"])
    EXPECT_EQ(again->encode(run["rendered"].get<std::string>(), false),
              tokenizer_->encode(run["rendered"].get<std::string>(), false));
}

TEST_P(RealModel, DecodesWhatItEncodes) {
  for (const Json& item : golden_["tokenize"]) {
    const auto text = item["text"].get<std::string>();
    const auto ids = item["ids"].get<std::vector<int>>();
    EXPECT_EQ(tokenizer_->decode(ids), text);
    StreamingDetokenizer stream(tokenizer_);
    std::string streamed;
    for (const int id : ids) {
      const std::string piece = stream.add(id);
      EXPECT_EQ(piece.find("\xEF\xBF\xBD"), std::string::npos) << text;
      streamed += piece;
    }
    EXPECT_EQ(streamed + stream.finish(), text);
  }
}

TEST_P(RealModel, Prompts) {
  for (const Json& run : golden_["runs"]) {
    const auto rendered = run["rendered"].get<std::string>();
    if (tokenizer_->has_chat_template()) {
      const auto messages =
          OrderedJson::array({{{"role", "user"}, {"content", run["prompt"].get<std::string>()}}});
      EXPECT_EQ(tokenizer_->apply_chat_template(messages, {{"add_generation_prompt", true}}),
                rendered);
    }
    EXPECT_EQ(tokenizer_->encode(rendered, !tokenizer_->has_chat_template()),
              run["ids"].get<std::vector<int>>());
  }
}

INSTANTIATE_TEST_SUITE_P(
    , RealModel,
    ::testing::Values(Model{"SmolLM2", golden::kSmolLM2, "smollm2-135m-instruct-q4_1.json"},
                      Model{"Gemma3", golden::kGemma3, "gemma-3-270m-q4_k_m.json"}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace mlxcpp

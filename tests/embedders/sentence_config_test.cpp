#include "embedders/sentence_config.h"

#include "embedders/model_folder.h"
#include "support/throws.h"

namespace mlxcpp::embedders {
namespace {

using mlxcpp::test::error_of;
using test::ModelFolder;
using ::testing::HasSubstr;

std::string error_in(const ModelFolder& folder) {
  return error_of([&] { read_sentence_config(folder.path()); });
}

TEST(SentenceConfig, ReadsThePipeline) {
  const auto c = read_sentence_config(test::fixture("embeddinggemma"));
  EXPECT_TRUE(c.has_modules);
  EXPECT_EQ(c.pooling, std::vector{Pooling::mean});
  ASSERT_EQ(c.dense.size(), 2u);
  EXPECT_EQ(c.dense[0].in_features, 48);
  EXPECT_EQ(c.dense[0].out_features, 192);
  EXPECT_FALSE(c.dense[0].bias);
  EXPECT_EQ(c.dense[0].activation, "identity");
  EXPECT_TRUE(c.normalize);
  EXPECT_EQ(c.prompt("query"), "task: search result | query: ");
  EXPECT_EQ(c.max_seq_length, 512);
  EXPECT_EQ(error_of([&] { c.prompt("poem"); }),
            "the model has no prompt 'poem'; it has document, query");
}

TEST(SentenceConfig, WithoutItsFilesEverythingIsLeftToTheCaller) {
  const ModelFolder folder("bert");
  for (const char* file : {"modules.json", "1_Pooling", "sentence_bert_config.json",
                           "config_sentence_transformers.json"})
    folder.remove(file);
  const auto c = read_sentence_config(folder.path());
  EXPECT_FALSE(c.has_modules);
  EXPECT_TRUE(c.pooling.empty());
  EXPECT_FALSE(c.normalize);
  EXPECT_FALSE(c.max_seq_length);
}

TEST(SentenceConfig, SeveralModesAreJoinedInTheReferencesOrder) {
  const ModelFolder folder("bert");
  folder.set("1_Pooling/config.json", "pooling_mode_cls_token", true);
  folder.set("1_Pooling/config.json", "pooling_mode_max_tokens", true);
  EXPECT_EQ(read_sentence_config(folder.path()).pooling,
            (std::vector{Pooling::cls, Pooling::max, Pooling::mean}));
}

TEST(SentenceConfig, NewerFilesNameThePoolingByOneKey) {
  const ModelFolder folder("bert");
  folder.write("1_Pooling/config.json",
               R"({"embedding_dimension": 48, "pooling_mode": "lasttoken"})");
  EXPECT_EQ(read_sentence_config(folder.path()).pooling, std::vector{Pooling::last});
}

TEST(SentenceConfig, WhatWouldChangeTheResultIsRefused) {
  {
    const ModelFolder folder("bert");
    folder.set("1_Pooling/config.json", "pooling_mode_attention", true);
    EXPECT_THAT(error_in(folder), HasSubstr("pooling_mode_attention"));
  }
  {
    const ModelFolder folder("bert");
    folder.set("1_Pooling/config.json", "pooling_mode_mean_tokens", false);
    EXPECT_THAT(error_in(folder), HasSubstr("every 'pooling_mode_...' is false"));
  }
  {
    const ModelFolder folder("bert");
    folder.set("sentence_bert_config.json", "do_lower_case", true);
    EXPECT_THAT(error_in(folder), HasSubstr("do_lower_case"));
  }
  {
    const ModelFolder folder("embeddinggemma");
    folder.set("2_Dense/config.json", "activation_function", "torch.nn.Softsign");
    EXPECT_THAT(error_in(folder), HasSubstr("'torch.nn.Softsign' is not supported"));
  }
  {
    const ModelFolder folder("bert");
    Json modules = read_json(folder / "modules.json");
    modules[1]["type"] = "sentence_transformers.models.LSTM";
    folder.write("modules.json", modules.dump());
    EXPECT_THAT(error_in(folder), HasSubstr("LSTM"));
    modules[1]["type"] = "sentence_transformers.models.Pooling";
    modules[1]["path"] = "../1_Pooling";
    folder.write("modules.json", modules.dump());
    EXPECT_THAT(error_in(folder), HasSubstr("leads out of the folder"));
  }
}

TEST(ScoreIsSigmoid, UnlessTheConfigSaysOtherwise) {
  EXPECT_TRUE(score_is_sigmoid(Json::object(), "config.json"));
  const std::string identity = "torch.nn.modules.linear.Identity";
  EXPECT_FALSE(score_is_sigmoid({{"sbert_ce_default_activation_function", identity}}, "c"));
  EXPECT_FALSE(score_is_sigmoid({{"sentence_transformers", {{"activation_fn", identity}}}}, "c"));
  EXPECT_THAT(error_of([] {
                score_is_sigmoid({{"sbert_ce_default_activation_function", "torch.nn.ReLU"}}, "c");
              }),
              HasSubstr("a score by 'torch.nn.ReLU'"));
}

}  // namespace
}  // namespace mlxcpp::embedders

#include "embedders/reranker.h"

#include "embedders/model_folder.h"
#include "support/throws.h"

namespace mlxcpp::embedders {
namespace {

using mlxcpp::test::error_of;
using test::fixture;
using test::ModelFolder;
using ::testing::HasSubstr;

const std::vector<std::string> kDocuments{"The quick brown fox jumps over the lazy dog.", "Yes",
                                          "Bread is made of flour, water, salt and yeast."};

TEST(Reranker, ScoresAreTheSameInABatchAndInTheOrderOfTheDocuments) {
  for (const char* name : {"bert_reranker", "xlm_roberta_reranker", "qwen3_reranker"}) {
    const Reranker reranker(ModelFiles{fixture(name), {}});
    const auto together = reranker.score("How is bread made?", kDocuments);
    ASSERT_EQ(together.size(), kDocuments.size());
    for (size_t i = 0; i < kDocuments.size(); ++i)
      EXPECT_NEAR(reranker.score("How is bread made?", {kDocuments[i]})[0], together[i], 1e-6)
          << name;
    EXPECT_TRUE(reranker.score("How is bread made?", {}).empty());
  }
}

TEST(Reranker, LongPairsLoseFromTheLongerTextAndKeepWhatStandsAround) {
  const Reranker reranker(ModelFiles{fixture("bert_reranker"), {}}, {.max_length = 20});
  std::string document;
  for (int i = 0; i < 500; ++i) document += "water ";
  const Tokens tokens = reranker.tokens("bread", document, {});
  EXPECT_EQ(tokens.ids.size(), 20u);
  EXPECT_EQ(tokens.ids.front(), *reranker.model().tokenizer->token_to_id("[CLS]"));
  const int sep = *reranker.model().tokenizer->token_to_id("[SEP]");
  EXPECT_EQ(std::count(tokens.ids.begin(), tokens.ids.end(), sep), 2);
  EXPECT_EQ(tokens.ids.back(), sep);
  EXPECT_EQ(tokens.type_ids.size(), 20u);
  EXPECT_EQ(tokens.type_ids.back(), 1);
}

TEST(Reranker, OtherModelsAreRefused) {
  EXPECT_THAT(error_of([] { Reranker(ModelFiles{fixture("bert"), {}}); }),
              HasSubstr("not a reranker"));
  const ModelFolder folder("bert_reranker");
  folder.set("config.json", "id2label", {{"0", "no"}, {"1", "yes"}});
  EXPECT_THAT(error_of([&] { Reranker reranker(folder.files()); }),
              HasSubstr("one label, this model's has 2"));
}

TEST(BestFirst, KeepsTheOrderOfEqualScores) {
  EXPECT_EQ(best_first({0.1f, 0.5f, 0.5f, 0.9f}), (std::vector<size_t>{3, 1, 2, 0}));
}

}  // namespace
}  // namespace mlxcpp::embedders

#include "llm/presets.h"

#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mlxcpp::llm {
namespace {

using ::testing::ElementsAre;

// The list of mlx-swift-examples at 55daf5b.
TEST(Presets, AreTheFortyOfTheOrigin) {
  std::set<std::string> ids, short_names;
  int with_eos = 0, with_tokenizer = 0;
  for (const ModelConfiguration& c : presets().all()) {
    ids.insert(c.id);
    short_names.insert(c.short_name());
    with_eos += !c.extra_eos_tokens.empty();
    with_tokenizer += !c.override_tokenizer.empty();
  }
  EXPECT_EQ(ids.size(), 40u);
  EXPECT_EQ(short_names.size(), 40u) << "each can be asked for by its short name";
  EXPECT_EQ(with_eos, 7) << "five of Gemma 3 and 3n, two of Phi 3.5";
  EXPECT_EQ(with_tokenizer, 5);
  EXPECT_THAT(presets().at("gemma-3n-E2B-it-lm-4bit").extra_eos_tokens,
              ElementsAre("<end_of_turn>"));
  EXPECT_EQ(presets().at("OpenELM-270M-Instruct").default_prompt, "Once upon a time there was");
  EXPECT_EQ(presets().at("granite-3.3-2b-instruct-4bit").default_prompt, "");
}

}  // namespace
}  // namespace mlxcpp::llm

// Tokenizers of every file format against the libraries they come from (golden/text/NAME, made by
// tests/scripts/make_text_goldens.py), and what all of them must hold.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <thread>

#include "core/json.h"
#include "support/temp_folder.h"
#include "tests/support/paths.h"
#include "text/tokenizer.h"

namespace mlxcpp {
namespace {

namespace fs = std::filesystem;
constexpr const char* kReplacement = "\xEF\xBF\xBD";

// The folders that have cases.json; MLXCPP_TEXT_GOLDEN may name another folder of such.
std::vector<fs::path> golden_folders() {
  std::vector<fs::path> folders;
  const char* other = std::getenv("MLXCPP_TEXT_GOLDEN");
  for (const auto& entry :
       fs::directory_iterator(other ? fs::path(other) : test::golden_folder() / "text"))
    if (fs::exists(entry.path() / "cases.json")) folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());
  return folders;
}

class Golden : public ::testing::TestWithParam<fs::path> {
 protected:
  void SetUp() override {
    tokenizer_ = Tokenizer::from_folder(GetParam());
    golden_ = read_json(GetParam() / "cases.json");
  }
  std::shared_ptr<const Tokenizer> tokenizer_;
  Json golden_;
};

TEST_P(Golden, Ids) {
  EXPECT_EQ(tokenizer_->vocab_size(), golden_["vocab_size"]);
  for (const Json& test : golden_["cases"]) {
    const auto text = test["text"].get<std::string>();
    EXPECT_EQ(tokenizer_->encode(text, false), test["ids"].get<std::vector<int>>()) << text;
    if (test.contains("special")) {
      EXPECT_EQ(tokenizer_->encode(text), test["special"].get<std::vector<int>>()) << text;
    }
  }
}

TEST_P(Golden, AsTokenizerJsonItIsTheSame) {
  const test::TempFolder folder;
  folder.write("tokenizer.json", tokenizer_->to_json());
  const auto again = Tokenizer::from_folder(folder.path());
  for (const Json& test : golden_["cases"]) {
    const auto text = test["text"].get<std::string>();
    EXPECT_EQ(again->encode(text), tokenizer_->encode(text)) << text;
  }
}

TEST_P(Golden, Ranges) {
  for (const Json& test : golden_["cases"]) {
    if (!test.contains("ranges")) continue;
    const auto text = test["text"].get<std::string>();
    const Encoding encoding = tokenizer_->encode_with_ranges(text, std::nullopt, false);
    EXPECT_EQ(encoding.ids, test["ids"].get<std::vector<int>>());
    Json ranges = Json::array();
    for (const auto& range : encoding.ranges) ranges.push_back({range.begin, range.end});
    EXPECT_EQ(ranges, test["ranges"]) << text;
  }
}

TEST_P(Golden, Pairs) {
  if (!golden_.contains("pair")) return;
  const Encoding pair = tokenizer_->encode_with_ranges("one text", "and another");
  EXPECT_EQ(pair.ids, golden_["pair"]["ids"].get<std::vector<int>>());
  EXPECT_EQ(pair.type_ids, golden_["pair"]["type_ids"].get<std::vector<int>>());
}

TEST_P(Golden, Texts) {
  for (const Json& test : golden_["cases"]) {
    if (!test.contains("decoded")) continue;
    const bool special = test.contains("special");
    const auto ids = test[special ? "special" : "ids"].get<std::vector<int>>();
    EXPECT_EQ(tokenizer_->decode(ids), test["decoded"].get<std::string>()) << test["text"];
    if (special) {
      EXPECT_EQ(tokenizer_->decode(ids, true), test["skipped"].get<std::string>()) << test["text"];
    }
  }
}

TEST_P(Golden, StreamedTexts) {
  for (const Json& test : golden_["cases"]) {
    const auto ids = test[test.contains("special") ? "special" : "ids"].get<std::vector<int>>();
    const bool whole_characters = tokenizer_->decode(ids).find(kReplacement) == std::string::npos;
    for (const bool skip : {false, true}) {
      StreamingDetokenizer stream(tokenizer_, skip);
      std::string text;
      for (const int id : ids) {
        const std::string piece = stream.add(id);
        if (whole_characters) {
          EXPECT_EQ(piece.find(kReplacement), std::string::npos) << piece;
        }
        text += piece;
      }
      EXPECT_EQ(text + stream.finish(), tokenizer_->decode(ids, skip)) << test["text"];
    }
  }
}

TEST_P(Golden, ThreadsShareOne) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (const Json& test : golden_["cases"])
        EXPECT_EQ(tokenizer_->encode(test["text"].get<std::string>(), false),
                  test["ids"].get<std::vector<int>>());
    });
  for (std::thread& thread : threads) thread.join();
}

// Tokens that end one character and begin the next, in a row: no place between tokens is one
// between characters.
TEST(StreamingDetokenizer, CharactersThatTokensDoNotEndAt) {
  const test::TempFolder folder;
  folder.write("tokenizer.json",
               R"({"model": {"type": "BPE", "vocab": {"æ": 0, "Ĺ": 1, "¥æ": 2, "¥": 3},
      "merges": []}, "decoder": {"type": "ByteLevel", "add_prefix_space": false,
      "trim_offsets": false, "use_regex": false}})");
  const auto tokenizer = Tokenizer::from_folder(folder.path());
  std::vector<int> ids = {0};
  for (int i = 0; i < 30; ++i) ids.insert(ids.end(), {1, 2});
  const std::string sun = "\xE6\x97\xA5";

  StreamingDetokenizer stream(tokenizer);
  EXPECT_EQ(stream.add(0), "");
  for (int i = 0; i < 30; ++i) {
    EXPECT_EQ(stream.add(1), "");
    EXPECT_EQ(stream.add(2), sun) << i;
  }
  EXPECT_EQ(stream.finish(), kReplacement);  // the half that is left

  StreamingDetokenizer whole(tokenizer);
  std::string text;
  ids.insert(ids.end(), {1, 3});
  for (const int id : ids) text += whole.add(id);
  EXPECT_EQ(text + whole.finish(), tokenizer->decode(ids));
}

INSTANTIATE_TEST_SUITE_P(, Golden, ::testing::ValuesIn(golden_folders()),
                         [](const auto& info) { return info.param.filename().string(); });

}  // namespace
}  // namespace mlxcpp

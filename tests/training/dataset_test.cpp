#include "training/dataset.h"

#include "lm_common/test_tokenizer.h"
#include "support/temp_folder.h"
#include "support/throws.h"
#include "training/batches.h"
#include "training/report.h"

namespace mlxcpp::training {
namespace {

using namespace mlxcpp::testing;
using test::error_of;
using test::TempFolder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Data : ::testing::Test {
  std::vector<Example> read(const std::string& lines, const DataOptions& options = {}) const {
    folder.write("train.jsonl", lines);
    return need_split(folder.path(), "train", *tokenizer, options);
  }
  std::string fault(const std::string& lines, const DataOptions& options = {}) const {
    return error_of([&] { read(lines, options); });
  }

  TempFolder folder;
  std::shared_ptr<const Tokenizer> tokenizer = test_tokenizer();
};

std::vector<int> operator+(std::vector<int> a, const std::vector<int>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST_F(Data, TextEndsWithTheEndToken) {
  const auto examples = read("{\"text\": \"ab\"}\n\n  \r\n{\"text\": \"abc<eos>\"}\r\n");
  ASSERT_EQ(examples.size(), 2u);
  EXPECT_EQ(examples[0].tokens, letters("ab") + std::vector{kEos});
  EXPECT_EQ(examples[1].tokens, letters("abc") + std::vector{kEos});
}

TEST_F(Data, PlainTextFileIsOneTextALine) {
  folder.write("valid.txt", "one\ntwo");
  const auto examples = load_split(folder.path(), "valid", *tokenizer);
  ASSERT_TRUE(examples);
  ASSERT_EQ(examples->size(), 2u);
  EXPECT_EQ((*examples)[1].tokens, letters("two") + std::vector{kEos});
  EXPECT_FALSE(load_split(folder.path(), "test", *tokenizer));
}

TEST_F(Data, ChatsGoThroughTheTemplate) {
  const auto want = std::vector{kUser} + letters("hi") + std::vector{kEos, kAssistant} +
                    letters("yo") + std::vector{kEos};
  const auto examples = read(
      "{\"prompt\": \"hi\", \"completion\": \"yo\", \"text\": \"no\"}\n"
      "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}, {\"role\": \"assistant\", "
      "\"content\": \"yo\"}], \"tools\": [{\"name\": \"f\"}]}\n");
  ASSERT_EQ(examples.size(), 2u);
  for (const Example& e : examples) {
    EXPECT_EQ(e.tokens, want);
    EXPECT_EQ(e.prompt, 0);
  }
  for (const Example& e :
       read("{\"prompt\": \"hi\", \"completion\": \"yo\"}", {.mask_prompt = true}))
    EXPECT_EQ(e.prompt, 5);  // <user> h i <eos> <bot>
}

TEST_F(Data, FaultsNameFileAndLine) {
  const std::string good = "{\"text\": \"ab\"}\n";
  EXPECT_THAT(fault(good + "{\"text\": \"ab\"\n"),
              ::testing::AllOf(HasSubstr("train.jsonl:2"), HasSubstr("not valid JSON")));
  EXPECT_THAT(fault(good + "[1]\n"), HasSubstr("train.jsonl:2: expected a JSON object"));
  EXPECT_THAT(
      fault(good + "\n{\"txt\": \"ab\"}\n"),
      HasSubstr("train.jsonl:3: expected 'text', 'prompt' and 'completion', or 'messages'"));
  EXPECT_THAT(fault("{\"text\": 7}"), HasSubstr("train.jsonl:1: 'text' must be a string"));
  EXPECT_THAT(fault("{\"messages\": []}"), HasSubstr("'messages' must be a list"));
  EXPECT_THAT(fault("{\"prompt\": \"a\", \"completion\": \"b\", \"tools\": 1}"),
              HasSubstr("'tools' must be a list"));
  EXPECT_THAT(fault(""), HasSubstr("train.jsonl: there is no example in it"));
  EXPECT_THAT(fault("{\"text\": \"\"}"), HasSubstr("at least two tokens"));
  EXPECT_THAT(fault(good, {.mask_prompt = true}), HasSubstr("a text has no prompt"));
  EXPECT_THAT(fault(good, {.vocab_size = 5}),
              HasSubstr("has token 5 ('b'), but the model's vocabulary has 5"));
  EXPECT_THAT(error_of([&] { need_split(folder.path(), "test", *tokenizer); }),
              HasSubstr("expected test.jsonl or test.txt"));
  EXPECT_THAT(error_of([&] { need_split(folder / "no", "test", *tokenizer); }),
              HasSubstr("expected a folder"));
}

TEST_F(Data, FingerprintTellsContentAndOrder) {
  const std::vector<Example> a{{{1, 2}}, {{3}}}, b{{{3}}, {{1, 2}}}, c{{{1}}, {{2, 3}}},
      d{{{1, 2}, 1}, {{3}}};
  EXPECT_NE(fingerprint(a), fingerprint(b));
  EXPECT_NE(fingerprint(a), fingerprint(c));
  EXPECT_NE(fingerprint(a), fingerprint(d));
  EXPECT_EQ(fingerprint(a), fingerprint({{{1, 2}}, {{3}}}));
}

TEST(Order, IsNumpys) {
  // np.random.seed(0); np.random.permutation(10), np.random.permutation(7)
  DataOrder order(0);
  EXPECT_THAT(order.permutation(10), ElementsAre(2, 8, 4, 9, 1, 6, 7, 3, 0, 5));
  DataOrder other(9);
  other.set_state(order.state());
  EXPECT_THAT(order.permutation(7), ElementsAre(3, 1, 2, 6, 5, 0, 4));
  EXPECT_THAT(other.permutation(7), ElementsAre(3, 1, 2, 6, 5, 0, 4));
  EXPECT_THAT(DataOrder(42).permutation(12), ElementsAre(10, 9, 0, 8, 5, 2, 1, 11, 4, 7, 3, 6));
  EXPECT_THAT(error_of([&] { order.set_state("nonsense"); }), HasSubstr("no state"));
}

template <class T>
std::vector<T> values(const mx::array& a) {
  auto dense = mx::contiguous(a);
  dense.eval();
  return {dense.data<T>(), dense.data<T>() + dense.size()};
}

TEST(MakeBatch, PadsAndPicksWhatHasALoss) {
  const std::vector<Example> examples{{{1, 2, 3}}, {{4, 5, 6, 7, 8}, 2}};
  const Batch b = make_batch(examples, {0, 1}, 2048);
  EXPECT_EQ(b.inputs.shape(), (mx::Shape{2, 32}));
  const auto inputs = values<int>(b.inputs);
  EXPECT_EQ(std::vector(inputs.begin(), inputs.begin() + 4), (std::vector{1, 2, 3, 0}));
  // mlx_lm's mask: steps from the prompt's length to the sequence's, counted from 1.
  EXPECT_THAT(values<int>(b.targets), ElementsAre(2, 3, 0, 6, 7, 8, 0));
  EXPECT_THAT(values<int>(b.rows), ElementsAre(0, 1, 2, 33, 34, 35, 36));
  EXPECT_EQ(b.tokens, 7);
  EXPECT_EQ(b.cut, 0);
}

TEST(MakeBatch, CutsWhatIsTooLong) {
  const std::vector<Example> examples{{{1, 2, 3, 4, 5, 6}}, {{4, 5}}};
  const Batch b = make_batch(examples, {0, 1}, 4);
  EXPECT_EQ(b.inputs.shape(), (mx::Shape{2, 3}));
  EXPECT_THAT(values<int>(b.targets), ElementsAre(2, 3, 4, 5, 0));
  EXPECT_EQ(b.cut, 1);
}

TEST(Batches, AreNeighboursAndWhole) {
  const std::vector<Example> examples(7, Example{{1, 2}});
  EXPECT_THAT(batches_of(examples, 3), ElementsAre(ElementsAre(0, 1, 2), ElementsAre(3, 4, 5)));
  EXPECT_THAT(error_of([&] { batches_of(examples, 8); }),
              HasSubstr("expected at least 8 examples, a batch, found 7"));
}

TEST(Report, GoesOnAfterTheCheckpoint) {
  const TempFolder folder;
  const auto file = folder / "r.jsonl";
  {
    ReportFile report(file, 0);
    for (const int i : {1, 2, 3}) report.add({{"iteration", i}});
  }
  std::ofstream(file, std::ios::app) << "{\"iteration\": 4, \"los";  // killed while writing
  {
    ReportFile report(file, 2);
    report.add({{"iteration", 3}, {"again", true}});
  }
  EXPECT_EQ(test::read_all(file),
            "{\"iteration\":1}\n{\"iteration\":2}\n{\"again\":true,\"iteration\":3}\n");
  {
    const ReportFile report(file, 0);
  }
  EXPECT_EQ(test::read_all(file), "");
}

}  // namespace
}  // namespace mlxcpp::training

// What the benchmarks measure with, on shell scripts in the place of models.
#include "support/comparison.h"

#include "tests/support/temp_folder.h"
#include "tests/support/throws.h"

namespace mlxcpp::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr Child::Seconds kLong{60}, kShort{4};

// Ready at once; answers each line with `answer`, in which $n counts them.
std::vector<std::string> counting(const std::string& answer) {
  return {
      "/bin/sh", "-c",
      "echo '{\"ready\": true}'; n=0; while read request; do n=$((n + 1)); " + answer + "; done"};
}
const char* const kCount = "echo \"{\\\"value\\\": $n}\"";

TEST(BenchComparison, AsksInTurnsAfterAWarmUp) {
  Comparison comparison({{"ours", counting(kCount)}, {"theirs", counting("echo '{\"value\": 7}'")}},
                        kLong);
  EXPECT_THAT(comparison.ask("x", 3), ElementsAre(ElementsAre(2, 3, 4), ElementsAre(7, 7, 7)));
  EXPECT_FALSE(comparison.peers_failed());
}

// Children that were started earlier must see the end of their input while later ones live.
TEST(BenchComparison, EndsAllItsProcesses) {
  const auto started = std::chrono::steady_clock::now();
  {
    Comparison comparison(
        {{"a", counting(kCount)}, {"b", counting(kCount)}, {"c", counting(kCount)}}, kLong);
    comparison.ask("x", 1);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - started, kLong);
}

TEST(BenchComparison, AFreshProcessForEachRun) {
  Comparison comparison({{"ours", counting(kCount)}}, kLong);
  const auto values = comparison.in_fresh_processes(2, [](Child& child) {
    EXPECT_GT(child.to_ready().count(), 0);
    child.ask("x");
    return std::map<std::string, double>{{"second", child.ask("x").at("value")}};
  });
  EXPECT_THAT(values.at("second"), ElementsAre(ElementsAre(2, 2)));
}

TEST(BenchComparison, AStuckPeerIsEndedAndLeftOut) {
  testing::internal::CaptureStderr();
  Comparison comparison(
      {{"ours", counting(kCount)},
       {"stuck", counting("if [ $n = 3 ]; then exec sleep 1000; else echo '{\"value\": 1}'; fi")},
       {"slow start", {"/bin/sh", "-c", "exec sleep 1000"}},
       {"well", counting("echo '{\"value\": 5}'")}},
      kShort);
  const auto values = comparison.ask("work", 3);
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_THAT(values[0], ElementsAre(2, 3, 4));
  EXPECT_THAT(values[1], SizeIs(1)) << "of the runs before it stuck";
  EXPECT_THAT(values[2], IsEmpty());
  EXPECT_THAT(values[3], SizeIs(3));
  EXPECT_TRUE(comparison.peers_failed());
  EXPECT_THAT(text, HasSubstr("left out from here on: stuck: no answer to 'work' within 4 s"));
  EXPECT_THAT(text, HasSubstr("slow start: no answer to the start within 4 s"));

  const Row row = comparison.with_best({.better = Better::lower}, values);
  EXPECT_EQ(row.peer, "well") << "a side that is out is no peer, though its one value is better";
  EXPECT_DOUBLE_EQ(*row.ratio(), 5.0 / 3);
  EXPECT_THAT(comparison.with_each({}, values), SizeIs(1));
}

// One that is much too slow gives a lower bound, and is not asked again.
TEST(BenchComparison, APeerThatBreaksOffGivesABound) {
  Comparison comparison({{"ours", counting(kCount)},
                         {"slow", counting("echo \"{\\\"value\\\": $((n * 100)), "
                                           "\\\"at_least\\\": true}\"")},
                         {"well", counting("echo '{\"value\": 5}'")}},
                        kLong);
  const auto values = comparison.ask("work", 3);
  EXPECT_THAT(values, ElementsAre(ElementsAre(2, 3, 4), ElementsAre(100), ElementsAre(5, 5, 5)));
  EXPECT_FALSE(comparison.peers_failed());
  const auto rows = comparison.with_each({.unit = "s", .better = Better::lower}, values);
  ASSERT_THAT(rows, SizeIs(2));
  EXPECT_THAT(table_line(rows[0]), HasSubstr(" >100.0  >33.33  s, slow"));
  EXPECT_EQ(Json::parse(json_line(rows[0])).at("peer_at_least"), true);
  EXPECT_FALSE(Json::parse(json_line(rows[1])).contains("peer_at_least"));
  EXPECT_EQ(comparison.with_best({.better = Better::lower}, values).peer, "well");
}

TEST(BenchComparison, OursThrows) {
  const auto error = [](const std::vector<std::string>& command) {
    return test::error_of([&] { Comparison({{"ours", command}}, kShort).ask("work", 1); });
  };
  EXPECT_THAT(error({"/bin/sh", "-c", "exec sleep 1000"}), HasSubstr("ours: no answer"));
  EXPECT_THAT(error({"/no/such/program"}), HasSubstr("ours: ended without an answer to the start"));
  EXPECT_THAT(error(counting("exit 0")), HasSubstr("ours: ended without an answer to 'work'"));
  EXPECT_THAT(error(counting("echo '{\"error\": \"no wind\"}'")), HasSubstr("ours: no wind"));
  EXPECT_THAT(error(counting("echo nonsense")), HasSubstr("ours"));
}

TEST(BenchReport, OneJsonObjectARow) {
  Row row{.bench = "llm",
          .model = "m",
          .point = "decode_128",
          .threads = 2,
          .unit = "tokens/s",
          .values = {1, 3, 2}};
  EXPECT_EQ(Json::parse(json_line(row)),
            Json::parse(R"({"bench": "llm", "model": "m", "point": "decode_128", "threads": 2,
                            "unit": "tokens/s", "value": 2.0, "min": 1.0, "max": 3.0, "runs": 3,
                            "peer": null, "peer_value": null, "ratio": null})"));
  row.peer = "theirs";
  row.peer_values = {4, 4, 5};
  EXPECT_DOUBLE_EQ(Json::parse(json_line(row)).at("ratio"), 0.5) << "above 1: we are better";
  row.better = Better::lower;
  EXPECT_DOUBLE_EQ(Json::parse(json_line(row)).at("ratio"), 2);
}

}  // namespace
}  // namespace mlxcpp::bench

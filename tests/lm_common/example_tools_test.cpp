#include "lm_common/tools/example_tools.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "core/error.h"

namespace mlxcpp {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

std::string fault(const std::string& expression) {
  try {
    return std::to_string(calculate(expression));
  } catch (const Error& e) {
    return e.what();
  }
}

TEST(ExampleTools, TheCalculatorKnowsPrecedence) {
  EXPECT_DOUBLE_EQ(calculate("1 + 2 * 3"), 7);
  EXPECT_DOUBLE_EQ(calculate("(1+2)*3 - 4/8"), 8.5);
  EXPECT_DOUBLE_EQ(calculate("2^3^2"), 512);
  EXPECT_DOUBLE_EQ(calculate("-2^2"), -4);
  EXPECT_DOUBLE_EQ(calculate("2 ** 10 % 1000"), 24);
  EXPECT_DOUBLE_EQ(calculate("2 * -3"), -6);
  EXPECT_DOUBLE_EQ(calculate("sqrt(16) + cos(0) + log10(1e3)"), 8);
  EXPECT_NEAR(calculate("ln(e) * pi"), 3.14159265, 1e-8);
}

TEST(ExampleTools, TheCalculatorSaysWhatIsWrong) {
  EXPECT_THAT(fault("1 +"), HasSubstr("expected a number at position 4"));
  EXPECT_THAT(fault("(1"), HasSubstr("expected ')'"));
  EXPECT_THAT(fault("1 2"), HasSubstr("expected an operator"));
  EXPECT_THAT(fault("system(1)"), HasSubstr("no function or constant 'system'"));
  EXPECT_THAT(fault("1/0"), HasSubstr("no finite value"));
  EXPECT_THAT(fault(std::string(100000, '(')), HasSubstr("nested too deep"));
  EXPECT_THAT(fault(std::string(100000, '-') + "1"), HasSubstr("nested too deep"));
  EXPECT_THAT(fault(""), HasSubstr("expected a number"));
}

TEST(ExampleTools, TheClockTellsTheTime) {
  const Tool clock = clock_tool([] { return std::chrono::system_clock::from_time_t(86400 * 200); });
  EXPECT_THAT(clock.run(OrderedJson::object()), HasSubstr("1970-07-"));
}

TEST(ExampleTools, TheDirectoryIsNotLeft) {
  std::string name = (fs::temp_directory_path() / "mlxcpp-folder-XXXXXX").string();
  ASSERT_TRUE(mkdtemp(name.data()));
  const fs::path root = fs::path(name) / "root";
  fs::create_directories(root / "inner");
  std::ofstream(root / "b.txt") << "b";
  std::ofstream(fs::path(name) / "secret.txt") << "s";
  fs::create_directory_symlink(name, root / "link");
  const Tool tool = directory_tool(root);
  EXPECT_EQ(tool.run(OrderedJson::object()), "b.txt\ninner/\nlink/");
  EXPECT_EQ(tool.run({{"path", "inner"}}), "(empty)");
  for (const std::string path : {"..", "link", "inner/../..", "/", "/etc"})
    EXPECT_THROW(tool.run({{"path", path}}), Error) << path;
  EXPECT_THROW(tool.run({{"path", "b.txt"}}), Error);
  EXPECT_THROW(tool.run({{"path", "none"}}), Error);
  fs::remove_all(name);
}

TEST(ExampleTools, AreCalledByName) {
  const auto tools = example_tools();
  EXPECT_EQ(execute({"calculate", {{"expression", "6*7"}}}, tools), "42");
  EXPECT_EQ(result_of({"calculate", {{"expression", "6*"}}}, tools).content.substr(0, 7),
            "Error: ");
  EXPECT_THAT(result_of({"calculator", OrderedJson::object()}, tools).content,
              HasSubstr("there are: current_time, calculate, list_directory"));
}

}  // namespace
}  // namespace mlxcpp

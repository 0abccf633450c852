// Every fixture of tests/golden that golden-tool knows, in exact precision; the quantised ones and
// the real models in the others, too. The same runner as golden-tool's.
#include <gtest/gtest.h>

#include "golden/kinds.h"
#include "golden/runner.h"
#include "tests/support/paths.h"

namespace mlxcpp::golden {

// For GoogleTest's messages.
static void PrintTo(const Fixture& fixture, std::ostream* out) { *out << fixture.name(); }

namespace {

std::vector<Fixture> fixtures(std::initializer_list<const char*> folders) {
  std::vector<fs::path> roots;
  for (const char* folder : folders) roots.push_back(test::golden_folder() / folder);
  return find_fixtures(roots);
}

void expect_passed(const Fixture& fixture, kernels::Precision precision) {
  const Result result = run(fixture, {.precision = precision});
  EXPECT_EQ(result.status, Result::Status::passed) << result.reason;
}

class Golden : public ::testing::TestWithParam<Fixture> {};

TEST_P(Golden, Exact) { expect_passed(GetParam(), kernels::Precision::exact); }

class GoldenPrecision : public ::testing::TestWithParam<Fixture> {};

TEST_P(GoldenPrecision, High) { expect_passed(GetParam(), kernels::Precision::high); }

std::string test_name(const ::testing::TestParamInfo<Fixture>& info) {
  std::string name = info.param.name();
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
}

std::vector<Fixture> quantised() {
  std::vector<Fixture> out;
  for (auto& f : fixtures({"llm", "real"})) {
    if (f.kind->name == "adapter") continue;
    if (f.kind->name == "real" || read_json(f.path / "config.json").contains("quantization"))
      out.push_back(f);
  }
  return out;
}

INSTANTIATE_TEST_SUITE_P(All, Golden,
                         ::testing::ValuesIn(fixtures({"llm", "gguf", "cache", "embedders", "media",
                                                       "real", "sampling.json", "sd", "vlm"})),
                         test_name);
INSTANTIATE_TEST_SUITE_P(Quantised, GoldenPrecision, ::testing::ValuesIn(quantised()), test_name);

}  // namespace
}  // namespace mlxcpp::golden

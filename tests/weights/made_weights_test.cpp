#include "golden/made_weights.h"

#include "weights/safetensors.h"
#include "weights/support.h"

namespace mlxcpp {
namespace {

using namespace test;
using ::testing::HasSubstr;

TEST(MadeWeights, EqualTheFormulaBitForBit) {
  const auto got = golden::made_weights(test::golden("made"));
  const auto want = load_safetensors(test::golden("made/expected.safetensors"));
  EXPECT_EQ(got.size(), want.size() + 1);  // and raw.safetensors
  for (const auto& [name, array] : want) expect_same(got.at(name), array, name);
  EXPECT_EQ(got.at("größe").dtype(), mx::float16);
  EXPECT_EQ(got.at("b").dtype(), mx::bfloat16);
  EXPECT_EQ(got.at("ids").data<int32_t>()[0], 3);
}

TEST(MadeWeights, BadDescriptions) {
  const TempFolder folder;
  const auto error = [&](const char* text) {
    folder.write("weights.json", text);
    return error_of([&] { golden::made_weights(folder.path()); });
  };
  EXPECT_THAT(error("[]"), HasSubstr("weights.json"));
  EXPECT_THAT(error(R"({"seed": -1, "tensors": {}})"), HasSubstr("'seed'"));
  EXPECT_THAT(error(R"({"seed": 1, "tensors": {"a": {"dtype": "F32"}}})"),
              HasSubstr("weights.json: a: 'shape' is missing"));
  EXPECT_THAT(
      error(
          R"({"seed": 1, "tensors": {"a": {"dtype": "I8", "shape": [1], "mean": 0, "spread": 1}}})"),
      HasSubstr("I8"));
  EXPECT_THAT(
      error(
          R"({"seed": 1, "tensors": {"a": {"dtype": "F32", "shape": [-1], "mean": 0, "spread": 1}}})"),
      HasSubstr("out of range"));
}

}  // namespace
}  // namespace mlxcpp

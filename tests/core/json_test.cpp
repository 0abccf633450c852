#include "core/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/temp_folder.h"
#include "support/throws.h"

namespace mlxcpp {
namespace {

using test::error_of;
using test::TempFolder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

struct Inner {
  int factor = 0;
  template <class V>
  void fields(V& v) {
    v.need("factor", factor);
  }
};

struct Sample {
  int size = 0;
  float eps = 1e-5f;
  double theta = 1e4;
  bool tied = true;
  std::string type;
  std::vector<int> list;
  std::optional<int> window;
  Inner inner;

  template <class V>
  void fields(V& v) {
    v.need("size", size);
    v.maybe("eps", eps);
    v.maybe("theta", theta);
    v.maybe("tied", tied);
    v.maybe("type", type);
    v.maybe("list", list);
    v.maybe("window", window);
    v.maybe("inner", inner);
  }
};

Sample read(const char* text) { return read_config<Sample>(parse_json(text, "c.json"), "c.json"); }

TEST(ParseJson, NamesWhereAndPlace) {
  EXPECT_THAT(error_of([] { parse_json("{\"a\": ", "x.json"); }),
              StartsWith("x.json: not valid JSON"));
  EXPECT_THAT(error_of([] { parse_json("", "x.json"); }), StartsWith("x.json: not valid JSON"));
  EXPECT_THAT(error_of([] { parse_json("{\"a\": \"\xff\"}", "x.json"); }),
              StartsWith("x.json: not valid JSON"));
}

TEST(ParseJson, BoundsNesting) {
  EXPECT_NO_THROW(parse_json(std::string(100, '[') + std::string(100, ']'), "x"));
  EXPECT_THAT(error_of([] { parse_json(std::string(1000000, '['), "x"); }),
              HasSubstr("nested deeper than 200"));
  std::string objects;
  for (int i = 0; i < 1000; ++i) objects += "{\"a\":";
  EXPECT_THAT(error_of([&] { parse_json(objects, "x"); }), HasSubstr("nested deeper than 200"));
}

TEST(ReadJson, MissingFileAndFolder) {
  const TempFolder folder;
  EXPECT_THAT(error_of([&] { read_json(folder / "no.json"); }), HasSubstr("no.json"));
  EXPECT_THAT(error_of([&] { read_json(folder.path()); }), HasSubstr("cannot be read"));
  EXPECT_EQ(read_json(folder.write("a.json", "[1]")).size(), 1u);
}

TEST(Describe, EveryType) {
  EXPECT_EQ(describe(Json(nullptr)), "null");
  EXPECT_EQ(describe(Json(true)), "true");
  EXPECT_EQ(describe(Json("a")), "the string \"a\"");
  EXPECT_EQ(describe(Json(7)), "the number 7");
  EXPECT_EQ(describe(Json::array({1})), "the list [1]");
  EXPECT_THAT(describe(Json(std::string(1000, 'x'))), HasSubstr("..."));
}

TEST(ConfigReader, ReadsEveryType) {
  const Sample s = read(R"({"size": 3, "eps": 1e-6, "theta": 5e5, "tied": false, "type": "t",
                            "list": [1, 2], "window": 8, "inner": {"factor": 2}})");
  EXPECT_EQ(s.size, 3);
  EXPECT_EQ(s.eps, 1e-6f);
  EXPECT_EQ(s.theta, 5e5);
  EXPECT_FALSE(s.tied);
  EXPECT_EQ(s.type, "t");
  EXPECT_THAT(s.list, ElementsAre(1, 2));
  EXPECT_EQ(s.window, 8);
  EXPECT_EQ(s.inner.factor, 2);
}

TEST(ConfigReader, AbsentAndNullKeepTheDefault) {
  const Sample s = read(R"({"size": 3, "eps": null, "window": null, "list": null})");
  EXPECT_EQ(s.eps, 1e-5f);
  EXPECT_FALSE(s.window);
}

TEST(ConfigReader, WholeFloatsAreIntegers) { EXPECT_EQ(read(R"({"size": 4096.0})").size, 4096); }

TEST(ConfigReader, NamesKeyExpectedAndFound) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {R"({})", "c.json: 'size' is missing"},
      {R"([])", "c.json: expected an object, found the list []"},
      {R"({"size": "3"})", "c.json: 'size' must be an integer, found the string \"3\""},
      {R"({"size": 1.5})", "c.json: 'size' must be an integer, found the number 1.5"},
      {R"({"size": 3000000000})", "c.json: 'size' must be an integer, found the number 3000000000"},
      {R"({"size": 1e300})", "c.json: 'size' must be an integer, found the number 1e+300"},
      {R"({"size": true})", "c.json: 'size' must be an integer, found true"},
      {R"({"size": null})", "c.json: 'size' must be an integer, found null"},
      {R"({"size": 1, "eps": "x"})", "c.json: 'eps' must be a number, found the string \"x\""},
      {R"({"size": 1, "eps": 1e300})", "c.json: 'eps' does not fit a float: the number 1e+300"},
      {R"({"size": 1, "tied": 1})", "c.json: 'tied' must be true or false, found the number 1"},
      {R"({"size": 1, "type": 1})", "c.json: 'type' must be a string, found the number 1"},
      {R"({"size": 1, "list": 1})", "c.json: 'list' must be a list, found the number 1"},
      {R"({"size": 1, "list": [1, "a"]})",
       "c.json: 'list' must be an integer, found the string \"a\""},
      {R"({"size": 1, "inner": {}})", "c.json: inner: 'factor' is missing"},
  };
  for (const auto& [text, message] : cases)
    EXPECT_EQ(error_of([t = text] { read(t); }), message) << text;
}

TEST(ConfigReader, RefusesKeysThatNobodyReads) {
  EXPECT_EQ(error_of([] { read(R"({"size": 1, "new_scale": 2.5, "old": "x"})"); }),
            "c.json: 'new_scale' (the number 2.5), 'old' (the string \"x\") not supported: what it "
            "changes is not implemented; remove it from the file if it changes nothing in the "
            "computation");
  EXPECT_THAT(error_of([] { read(R"({"size": 1, "inner": {"factor": 1, "power": 2}})"); }),
              StartsWith("c.json: inner: 'power' (the number 2) not supported"));
  EXPECT_NO_THROW(read(R"({"size": 1, "new_scale": null})"));
}

TEST(ConfigReader, PassesOverBookkeeping) {
  EXPECT_NO_THROW(read(R"({"size": 1, "architectures": ["A"], "transformers_version": "5.0",
                           "torch_dtype": "bfloat16", "eos_token_id": [1, 2], "use_cache": true,
                           "attention_dropout": 0.1, "unsloth_fixed": true, "top_k": 50,
                           "quantization": {"group_size": 64, "bits": 4}, "id2label": {}})"));
}

TEST(ConfigReader, SwitchesThatNearlyNobodyTurns) {
  EXPECT_NO_THROW(read(R"({"size": 1, "rope_interleaved": false, "is_encoder_decoder": null})"));
  EXPECT_EQ(error_of([] { read(R"({"size": 1, "rope_interleaved": true})"); }),
            "c.json: 'rope_interleaved' is true; only false is supported");
}

TEST(ConfigReader, SkipAndOnly) {
  const Json json = parse_json(R"({"a": 1, "b": "rms", "c": null})", "c.json");
  ConfigReader v(json, "c.json");
  v.skip("a");
  ConfigReader copy = v;  // shares what is known
  copy.only("b", "rms");
  v.only("c", 1);
  v.only("d", 1);
  EXPECT_NO_THROW(v.refuse_unknown());
  EXPECT_NO_THROW(v.only("a", 1.0));
  EXPECT_EQ(error_of([&] { v.only("b", "layer"); }),
            "c.json: 'b' is the string \"rms\"; only the string \"layer\" is supported");
}

}  // namespace
}  // namespace mlxcpp

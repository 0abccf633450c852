#include "nn/rope.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "near.h"
#include "tests/support/paths.h"

namespace mlxcpp::nn {
namespace {

using test::near;
using ::testing::HasSubstr;

RopeConfig config_of(const Json& json, int head_dim, const std::string& layer_type = "") {
  RopeConfig c;
  c.read(ConfigReader(json, "config.json"), head_dim, layer_type);
  return c;
}

std::string fault(const std::string& text, int head_dim = 16, const std::string& layer_type = "") {
  try {
    RoPE(config_of(parse_json(text, "test"), head_dim, layer_type));
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

// Element by element: x [1, 1, L, D] turned by the angle positions[l] * inv_freq[i].
mx::array turned(const mx::array& x, const RoPE::Frequencies& f, std::vector<float> positions,
                 bool traditional) {
  auto in = mx::contiguous(x);
  in.eval();
  const int L = x.shape(2), D = x.shape(3), half = static_cast<int>(f.inv_freq.size());
  std::vector<float> y(in.data<float>(), in.data<float>() + L * D);
  for (int l = 0; l < L; ++l)
    for (int i = 0; i < half; ++i) {
      const int a = l * D + (traditional ? 2 * i : i);
      const int b = l * D + (traditional ? 2 * i + 1 : i + half);
      const double angle = positions[l] * f.inv_freq[i];
      const double u = in.data<float>()[a], v = in.data<float>()[b];
      y[a] = static_cast<float>(f.scale * (u * std::cos(angle) - v * std::sin(angle)));
      y[b] = static_cast<float>(f.scale * (u * std::sin(angle) + v * std::cos(angle)));
    }
  return mx::array(y.begin(), x.shape(), mx::float32);
}

TEST(Rope, FrequenciesAreThoseOfTransformers) {
  const Json cases = read_json(test::golden_folder() / "nn/rope.json");
  ASSERT_GT(cases.size(), 25u);
  for (const Json& c : cases) {
    const int length = c["length"];
    SCOPED_TRACE(fmt::format("{}, length {}", c["name"].get<std::string>(), length));
    const RoPE rope(config_of(c["config"], c["head_dim"]));
    const auto got = rope.frequencies(length);
    EXPECT_NEAR(got.scale, c["scale"].get<double>(), 1e-6);
    ASSERT_EQ(got.inv_freq.size(), c["inv_freq"].size());
    for (size_t i = 0; i < got.inv_freq.size(); ++i) {
      const double want = c["inv_freq"][i];
      EXPECT_NEAR(got.inv_freq[i], want, 1e-6 * want) << i;
    }
  }
}

TEST(Rope, TurnsPairsByHand) {
  for (const bool traditional : {false, true}) {
    const RoPE rope(8, traditional, 100.0);
    const auto x = mx::random::normal({1, 1, 3, 12});  // 8 of 12 turn
    const auto want = turned(x, rope.frequencies(1), {5, 6, 7}, traditional);
    EXPECT_TRUE(near(rope(x, 5), want, 1e-5f));
    EXPECT_TRUE(near(rope(x, mx::array({5})), want, 1e-5f));
  }
}

TEST(Rope, ScaleMultipliesPositions) {
  const auto x = mx::random::normal({1, 2, 1, 8});
  EXPECT_TRUE(near(RoPE(8, false, 10000.0, 0.5)(x, 8), RoPE(8)(x, 4)));
}

TEST(Rope, EveryRowHasItsOwnPosition) {
  const RoPE rope(8);
  const auto x = mx::random::normal({2, 3, 4, 8});
  const auto y = rope(x, mx::array({7, 2}));
  const auto row = [](const mx::array& a, int i) {
    return mx::slice(a, {i, 0, 0, 0}, {i + 1, a.shape(1), a.shape(2), a.shape(3)});
  };
  EXPECT_TRUE(near(row(y, 0), rope(row(x, 0), 7)));
  EXPECT_TRUE(near(row(y, 1), rope(row(x, 1), 2)));
}

// Types whose frequencies depend on the length reached, for one offset and for rows of their own.
void check_lengths(const RoPE& rope, const std::vector<int>& offsets) {
  const int L = 2, D = 16;
  std::vector<mx::array> rows, want;
  for (const int offset : offsets) {
    rows.push_back(mx::random::normal({1, 1, L, D}));
    const auto f = rope.frequencies(offset + L);
    want.push_back(turned(rows.back(), f, {offset + 0.0f, offset + 1.0f}, false));
    EXPECT_TRUE(near(rope(rows.back(), offset), want.back(), 1e-4f)) << offset;
  }
  const auto all = mx::array(offsets.begin(), {static_cast<int>(offsets.size())}, mx::int32);
  EXPECT_TRUE(near(rope(mx::concatenate(rows, 0), all), mx::concatenate(want, 0), 1e-4f));
}

TEST(Rope, DynamicFollowsTheLengthReached) {
  const Json json = {{"max_position_embeddings", 16},
                     {"rope_scaling", {{"type", "dynamic"}, {"factor", 2.0}}}};
  check_lengths(RoPE(config_of(json, 16)), {0, 14, 15, 40, 200});
}

TEST(Rope, LongropeFollowsTheLengthReached) {
  const std::vector<double> shorter(8, 1.5), longer(8, 3.0);
  Json json = {
      {"max_position_embeddings", 512},
      {"original_max_position_embeddings", 32},
      {"rope_scaling", {{"type", "su"}, {"short_factor", shorter}, {"long_factor", longer}}}};
  check_lengths(RoPE(config_of(json, 16)), {0, 30, 31, 100});
  json["rope_scaling"]["short_mscale"] = 1.1;
  json["rope_scaling"]["long_mscale"] = 1.3;
  check_lengths(RoPE(config_of(json, 16)), {0, 30, 31, 100});
}

TEST(Rope, ScaleAppliesToTheTurnedPartOnly) {
  const Json json = {
      {"partial_rotary_factor", 0.5},
      {"rope_scaling",
       {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 64}}}};
  const RoPE rope(config_of(json, 32));
  EXPECT_EQ(rope.dims(), 16);
  const auto x = mx::random::normal({1, 1, 2, 32});
  EXPECT_TRUE(near(rope(x, 9), turned(x, rope.frequencies(1), {9, 10}, false), 1e-5f));
}

TEST(Rope, ProportionalLeavesTheLastPairs) {
  const Json json = {
      {"rope_parameters",
       {{"rope_type", "proportional"}, {"rope_theta", 1e6}, {"partial_rotary_factor", 0.25}}}};
  const RoPE rope(config_of(json, 32));
  EXPECT_EQ(rope.dims(), 32);
  const auto x = mx::random::normal({1, 1, 2, 32});
  const auto y = rope(x, 50);
  EXPECT_TRUE(near(y, turned(x, rope.frequencies(1), {50, 51}, false), 1e-4f));
  const auto still = [](const mx::array& a) { return mx::slice(a, {0, 0, 0, 4}, {1, 1, 2, 16}); };
  EXPECT_TRUE(near(still(y), still(x)));
}

TEST(Rope, TextPositionsOfMrope) {
  for (const bool interleaved : {false, true}) {
    const Json json = {{"rope_parameters",
                        {{"rope_type", "default"},
                         {"mrope_section", {4, 2, 2}},
                         {"mrope_interleaved", interleaved}}}};
    const RoPE rope(config_of(json, 16));
    const auto x = mx::random::normal({2, 3, 4, 16});
    const auto row = mx::arange(6, 10);
    EXPECT_TRUE(near(rope.multimodal(x, mx::broadcast_to(row, {3, 2, 4})), rope(x, 6), 1e-5f));
  }
}

TEST(Rope, SectionsOfMrope) {
  const int time = 3, height = 10, width = 40;
  const auto x = mx::random::normal({1, 1, 1, 16});
  const auto positions = mx::array({time, height, width}, {3, 1, 1});
  const auto check = [&](bool interleaved, const std::vector<int>& expected) {
    const Json json = {
        {"rope_scaling",
         {{"type", "mrope"}, {"mrope_section", {4, 2, 2}}, {"mrope_interleaved", interleaved}}}};
    const RoPE rope(config_of(json, 16));
    auto f = rope.frequencies(1);
    for (size_t i = 0; i < 8; ++i) f.inv_freq[i] *= expected[i];  // position 1 then stands for all
    EXPECT_TRUE(near(rope.multimodal(x, positions), turned(x, f, {1}, false), 1e-5f));
  };
  check(false, {time, time, time, time, height, height, width, width});
  check(true, {time, height, width, time, height, width, time, time});
}

TEST(Rope, LayersMayHaveTheirOwnParameters) {
  const Json json = {
      {"rope_parameters",
       {{"full_attention", {{"rope_type", "linear"}, {"factor", 8.0}, {"rope_theta", 1e6}}},
        {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 1e4}}}}}};
  const auto full = config_of(json, 16, "full_attention");
  EXPECT_EQ(full.type, RopeType::linear);
  EXPECT_EQ(full.theta, 1e6);
  EXPECT_EQ(config_of(json, 16, "sliding_attention").theta, 1e4);
  EXPECT_THAT(fault(json.dump(), 16, "chunked_attention"),
              HasSubstr("rope_parameters: 'chunked_attention' is missing"));
}

TEST(Rope, FaultsNameTheKey) {
  EXPECT_THAT(fault(R"({"rope_scaling": {"type": "spiral"}})"),
              HasSubstr("rope_scaling: 'rope_type' must be one of default, linear"));
  EXPECT_THAT(fault(R"({"rope_scaling": {"type": "linear"}})"), HasSubstr("'factor' is missing"));
  EXPECT_THAT(fault(R"({"rope_scaling": {"type": "linear", "factor": -2}})"),
              HasSubstr("'factor' must be positive, found -2"));
  EXPECT_THAT(fault(R"({"rope_scaling": {"type": "linear", "factor": "8"}})"),
              HasSubstr("'factor' must be a number"));
  EXPECT_THAT(fault(R"({"rope_scaling": {"type": "linear", "factor": 8, "facter": 9}})"),
              HasSubstr("'facter' is not known"));
  EXPECT_THAT(fault(R"({"rope_scaling": {"type": "llama3", "factor": 8, "high_freq_factor": 4}})"),
              HasSubstr("'low_freq_factor' is missing"));
  EXPECT_THAT(fault(R"({"rope_scaling": {"type": "yarn", "factor": 8}})"),
              HasSubstr("'original_max_position_embeddings' must be positive, found 0"));
  EXPECT_THAT(fault(R"({"rope_scaling": {"type": "dynamic", "factor": 2}})"),
              HasSubstr("'max_position_embeddings' must be positive"));
  EXPECT_THAT(fault(R"({"max_position_embeddings": 64, "rope_scaling":
                        {"type": "longrope", "short_factor": [1], "long_factor": [1, 2]}})"),
              HasSubstr("'short_factor' must have one number for each of 8 frequencies, found 1"));
  EXPECT_THAT(fault(R"({"rope_scaling": "linear"})"),
              HasSubstr("'rope_scaling' must be an object"));
  EXPECT_THAT(fault(R"({"rope_scaling": {"type": "mrope", "mrope_section": [8, 8]}})"),
              HasSubstr("'mrope_section' must be three sizes"));
  EXPECT_THAT(fault(R"({"rope_scaling": {"type": "mrope", "mrope_section": [8, 8, 8]}})"),
              HasSubstr("'mrope_section' must add up to 8"));
  EXPECT_THAT(fault(R"({"rope_theta": 0})"), HasSubstr("'rope_theta' must be positive"));
  EXPECT_THAT(fault(R"({"partial_rotary_factor": 0.2})"), HasSubstr("cannot turn in pairs"));
  EXPECT_THAT(fault(R"({"partial_rotary_factor": 1e300})"), HasSubstr("at most 1, found 1e+300"));
  EXPECT_THAT(fault("{}", 15), HasSubstr("15 of 15 dimensions"));
}

TEST(Rope, IsDifferentiable) {
  const Json json = {{"max_position_embeddings", 16},
                     {"rope_scaling", {{"type", "dynamic"}, {"factor", 2.0}}}};
  const RoPE rope(config_of(json, 8));
  const auto x = mx::random::normal({1, 1, 3, 8});
  // A rotation keeps lengths: the gradient of |y|^2 is 2x.
  const auto slope =
      mx::grad([&](const mx::array& a) { return mx::sum(mx::square(rope(a, mx::array({20})))); });
  EXPECT_TRUE(near(slope(x), mx::array(2.0f) * x, 1e-4f));
}

}  // namespace
}  // namespace mlxcpp::nn

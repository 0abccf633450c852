// What llm-tool trace and compare rest on.
#include "golden/trace.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "golden/fixture.h"
#include "llm/registry.h"
#include "lm_common/model_context.h"
#include "support/temp_folder.h"
#include "tests/support/paths.h"
#include "tests/support/throws.h"

namespace mlxcpp::golden {
namespace {

Trace llama_trace(std::vector<int> ids = {5, 7, 11}) {
  const auto model = make_language_model(
      load_fixture_checkpoint(test::golden_folder() / "llm" / "llama"), llm::model_types());
  return trace(*model, mx::array(ids.data(), {1, static_cast<int>(ids.size())}));
}

TEST(Trace, HasEveryModuleInOrderOfItsAnswer) {
  const Trace t = llama_trace();
  EXPECT_EQ(t.order.front(), "input_ids");
  EXPECT_EQ(t.order.back(), "logits");
  const auto place = [&](const std::string& name) {
    return std::find(t.order.begin(), t.order.end(), name) - t.order.begin();
  };
  EXPECT_LT(place("model.embed_tokens"), place("model.layers.0.self_attn.q_proj"));
  EXPECT_LT(place("model.layers.0.self_attn.q_proj"), place("model.layers.0.self_attn"));
  EXPECT_LT(place("model.layers.0.self_attn"), place("model.layers.0.mlp.down_proj"));
  EXPECT_LT(place("model.layers.0"), place("model.layers.1"));
  EXPECT_LT(place("model.norm"), place("logits"));
}

TEST(Trace, ComesBackFromAFileInTheSameOrder) {
  const test::TempFolder folder;
  const Trace written = llama_trace();
  save_trace(folder / "t.safetensors", written);
  const Trace read = load_trace(folder / "t.safetensors");
  EXPECT_EQ(read.order, written.order);
  EXPECT_FALSE(compare_traces(read, written, {.abs = 0, .rel = 0}).first_failure());
}

TEST(Trace, TheFirstTensorThatDiffersIsNamed) {
  const Trace want = llama_trace();
  Trace got = want;
  for (const char* name : {"model.layers.1.self_attn.v_proj", "model.layers.1", "logits"})
    got.tensors.at(name) = want.tensors.at(name) + mx::array(1.0f);
  const auto failure = compare_traces(got, want, {.abs = 1e-4, .rel = 0}).first_failure();
  ASSERT_TRUE(failure);
  EXPECT_TRUE(failure->starts_with("model.layers.1.self_attn.v_proj:")) << *failure;
}

TEST(Trace, HeadsMayStandBeforeOrAfterPositions) {
  Trace got = llama_trace(), want = got;
  const mx::array heads = mx::reshape(mx::arange(24.0f), {1, 2, 3, 4});
  got.add("heads", heads);
  want.add("heads", mx::swapaxes(heads, 1, 2));
  EXPECT_FALSE(compare_traces(got, want, {.abs = 0, .rel = 0}).first_failure());
}

TEST(Trace, StreamsMayStandBeforeTheBatch) {
  Trace got = llama_trace(), want = got;
  const mx::array streams = mx::reshape(mx::arange(24.0f), {1, 3, 4, 2});
  got.add("streams", streams);
  want.add("streams", mx::transpose(streams, {2, 0, 1, 3}));
  EXPECT_FALSE(compare_traces(got, want, {.abs = 0, .rel = 0}).first_failure());
}

TEST(Trace, BatchAndPositionsMayBeOneAxis) {
  Trace got = llama_trace(), want = got;
  const mx::array router = mx::reshape(mx::arange(24.0f), {1, 3, 8});
  got.add("router", router);
  want.add("router", mx::reshape(router, {3, 8}));
  EXPECT_FALSE(compare_traces(got, want, {.abs = 0, .rel = 0}).first_failure());
}

TEST(Trace, EmbeddingsAreAsTheReferencesModuleGivesThem) {
  const mx::array ids({5, 7, 11}, {1, 3});
  // Gemma's module scales, Granite's model.
  for (const char* family : {"gemma", "gemma2", "gemma3_text", "gemma3n", "granite"}) {
    const auto model = make_language_model(
        load_fixture_checkpoint(test::golden_folder() / "llm" / family), llm::model_types());
    const Trace t = trace(*model, ids);
    EXPECT_EQ(t.order.at(1), "model.embed_tokens");
    const float difference =
        mx::max(mx::abs(t.tensors.at("model.embed_tokens") - model->embed(ids))).item<float>();
    EXPECT_EQ(difference == 0, family != std::string("granite")) << family;
  }
}

// Two traces of which only the logits meet are no success.
TEST(Trace, NamesThatDoNotMeetAreAFault) {
  const Trace want = llama_trace();
  Trace got;
  for (const std::string& name : want.order)
    got.add(name.starts_with("model.") ? "language_model." + name : name, want.tensors.at(name));
  EXPECT_THAT(test::error_of([&] { compare_traces(got, want, {}); }),
              ::testing::HasSubstr("as 'language_model.model.embed_tokens' and "
                                   "'model.embed_tokens' do"));
}

TEST(Comparison, InfinitiesAgreeWithEqualOnesAlone) {
  constexpr float inf = std::numeric_limits<float>::infinity(), nan = NAN;
  const auto agree = [](float got, float want, kernels::Precision precision) {
    Comparison c({.abs = 1e-4, .rel = 1e-3}, precision);
    c.tensor("x", mx::array({1.0f, got}, {2}), mx::array({1.0f, want}, {2}));
    return !c.first_failure();
  };
  for (const auto precision :
       {kernels::Precision::exact, kernels::Precision::high, kernels::Precision::fast}) {
    EXPECT_TRUE(agree(inf, inf, precision));
    EXPECT_TRUE(agree(-inf, -inf, precision));
    EXPECT_FALSE(agree(-inf, inf, precision));
    for (const float x : {1.0f, 0.0f, nan}) {
      EXPECT_FALSE(agree(x, inf, precision)) << x;
      EXPECT_FALSE(agree(inf, x, precision)) << x;
      EXPECT_FALSE(agree(x, nan, precision)) << x;
      EXPECT_FALSE(agree(nan, x, precision)) << x;
    }
  }
}

TEST(Trace, TracesOfDifferentIdsAreRefused) {
  EXPECT_THROW(compare_traces(llama_trace({1, 2}), llama_trace({1, 3}), {}), Error);
}

TEST(Trace, AFileThatIsNoTraceIsRefused) {
  EXPECT_THROW(load_trace(test::golden_folder() / "sampling.safetensors"), Error);
}

}  // namespace
}  // namespace mlxcpp::golden

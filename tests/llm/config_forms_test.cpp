// Forms of config.json that mean the same: what transformers takes for granted where a key is
// absent or null, and older and newer names.
#include <gtest/gtest.h>

#include "golden/fixture.h"
#include "llm/registry.h"
#include "lm_common/model_context.h"
#include "lm_common/token_embedding.h"
#include "tests/support/paths.h"
#include "tests/support/throws.h"

namespace mlxcpp::llm {
namespace {

struct Case {
  const char* fixture;
  const char *one, *other;  // changes of its config.json, as JSON patches
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.fixture << " " << c.one; }

const Case kCases[] = {
    // A window that the family has not.
    {"llama", R"([{"op": "add", "path": "/sliding_window", "value": 4}])", "[]"},
    {"granite", R"([{"op": "add", "path": "/sliding_window", "value": 4}])", "[]"},
    {"glm4", R"([{"op": "add", "path": "/sliding_window", "value": 4}])", "[]"},
    {"deepseek_v3", R"([{"op": "add", "path": "/sliding_window", "value": 4}])", "[]"},
    // One that it has where nothing is said: layers without it do not turn.
    {"exaone4", R"([{"op": "remove", "path": "/sliding_window"}])",
     R"([{"op": "replace", "path": "/sliding_window", "value": 4096}])"},
    {"bitnet", R"([{"op": "remove", "path": "/rope_theta"}])",
     R"([{"op": "replace", "path": "/rope_theta", "value": 500000}])"},
    {"smollm3", R"([{"op": "remove", "path": "/rope_theta"}])",
     R"([{"op": "replace", "path": "/rope_theta", "value": 2000000}])"},
    {"ernie4_5",
     R"([{"op": "remove", "path": "/rms_norm_eps"},
         {"op": "remove", "path": "/num_key_value_heads"}])",
     R"([{"op": "replace", "path": "/rms_norm_eps", "value": 1e-5}])"},
    {"deepseek_v3",
     R"([{"op": "remove", "path": "/routed_scaling_factor"},
         {"op": "remove", "path": "/n_shared_experts"}])",
     "[]"},
    // As transformers 5 writes them.
    {"qwen3_moe", R"([{"op": "move", "from": "/num_experts", "path": "/num_local_experts"}])",
     "[]"},
    {"qwen2_moe", R"([{"op": "replace", "path": "/sliding_window", "value": 0}])", "[]"},
    {"minicpm3", R"([{"op": "add", "path": "/qk_head_dim", "value": 24}])", "[]"},
    // Two bases, and scaling for the layers that see everything.
    {"gemma3_text",
     R"([{"op": "remove", "path": "/rope_theta"}, {"op": "remove", "path": "/rope_local_base_freq"},
         {"op": "add", "path": "/rope_parameters", "value": {
           "full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
           "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}}])",
     "[]"},
    {"gemma3_text",
     R"([{"op": "replace", "path": "/rope_local_base_freq", "value": 500.0},
         {"op": "replace", "path": "/rope_theta", "value": 2000.0},
         {"op": "add", "path": "/rope_parameters", "value": {
           "full_attention": {"rope_type": "linear", "factor": 4.0}, "sliding_attention": null}}])",
     R"([{"op": "replace", "path": "/rope_local_base_freq", "value": 500.0},
         {"op": "replace", "path": "/rope_theta", "value": 2000.0},
         {"op": "replace", "path": "/rope_scaling", "value": {"type": "linear", "factor": 4.0}}])"},
    {"gemma3_text",
     R"([{"op": "replace", "path": "/rope_scaling", "value": {"type": "linear", "factor": 4.0}},
         {"op": "add", "path": "/rope_parameters", "value": null}])",
     R"([{"op": "replace", "path": "/rope_scaling", "value": {"type": "linear", "factor": 4.0}}])"},
};

class ConfigForms : public ::testing::TestWithParam<Case> {};

// The fixture's model with a changed config.json.
std::unique_ptr<LanguageModel> changed(const char* fixture, const char* change) {
  Checkpoint checkpoint = golden::load_fixture_checkpoint(test::golden_folder() / "llm" / fixture);
  checkpoint.config = checkpoint.config.patch(Json::parse(change));
  return make_language_model(std::move(checkpoint), model_types());
}

TEST_P(ConfigForms, MeanTheSame) {
  const auto logits = [&](const char* change) {
    const auto model = changed(GetParam().fixture, change);
    std::vector<int> ids;
    for (int i = 0; i < 24; ++i) ids.push_back(3 + 7 * i);
    Caches none, caches = model->make_caches({});
    const mx::array prompt(ids.begin(), {1, 24}, mx::int32), next({7}, {1, 1});
    const auto whole = (*model)(prompt, none);
    (*model)(prompt, caches).eval();
    return mx::concatenate({whole, (*model)(next, caches)}, 1);
  };
  EXPECT_TRUE(mx::array_equal(logits(GetParam().one), logits(GetParam().other)).item<bool>());
}

TEST(Lfm2, WithoutAListEveryLayerAttends) {
  EXPECT_THAT(test::error_of([] {
                changed("lfm2", R"([{"op": "remove", "path": "/layer_types"},
                                    {"op": "replace", "path": "/full_attn_idxs", "value": null}])");
              }),
              ::testing::HasSubstr("model.layers.0.self_attn"));
}

// What ids are checked against.
TEST(Vocabulary, IsThatOfEveryFamily) {
  const auto folder = test::golden_folder() / "llm";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (!std::filesystem::exists(entry.path() / "config.json")) continue;  // an adapter's
    const Json config = read_json(entry.path() / "config.json");
    const Json& text = config.contains("text_config") ? config.at("text_config") : config;
    EXPECT_EQ(vocab_size(*model_types().make(config)), text.at("vocab_size")) << entry.path();
  }
  Json config = read_json(folder / "gemma3" / "config.json");
  config.at("text_config").erase("vocab_size");
  EXPECT_EQ(vocab_size(*model_types().make(config)), 262208);
}

INSTANTIATE_TEST_SUITE_P(Families, ConfigForms, ::testing::ValuesIn(kCases));

}  // namespace
}  // namespace mlxcpp::llm

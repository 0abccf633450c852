// What a family's config.json says wrong is refused before any weight is read, in one line that
// names the key.
#include <gtest/gtest.h>

#include "../support/throws.h"
#include "llm/presets.h"
#include "llm/registry.h"
#include "tests/support/paths.h"

namespace mlxcpp::llm {
namespace {

using ::testing::HasSubstr;

struct Case {
  const char* fixture;
  const char* change;    // merged into its config.json
  const char* expected;  // in the message
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.fixture << " " << c.change; }

const Case kCases[] = {
    {"baichuan_m1", R"({"conv_window": 3})", "conv_window"},
    {"baichuan_m1", R"({"sliding_window_layers": [9]})", "sliding_window_layers"},
    {"baichuan_m1", R"({"num_swa_attention_heads": 3})", "'num_swa_attention_heads' is 3"},
    {"baichuan_m1", R"({"num_swa_attention_heads": -1})", "'num_swa_attention_heads' is -1"},
    {"baichuan_m1", R"({"num_swa_key_value_heads": -1})", "'num_swa_key_value_heads' is -1"},
    {"baichuan_m1", R"({"sliding_window_layers": [2], "num_swa_attention_heads": 0})",
     "'num_swa_attention_heads' is 0"},
    {"bitnet",
     R"({"quantization_config": {"quant_method": "bitnet", "quantization_mode": "online"}})",
     "quantization_mode"},
    {"bitnet", R"({"intermediate_size": 98})", "multiple of 4"},
    {"bitnet", R"({"hidden_act": "relu3"})", "relu3"},
    {"deepseek_v3", R"({"kv_lora_rank": -1})", "kv_lora_rank"},
    {"deepseek_v3", R"({"qk_rope_head_dim": 3})", "'qk_rope_head_dim' must be even, found 3"},
    {"deepseek_v3", R"({"first_k_dense_replace": -1})",
     "'first_k_dense_replace' must be 0 or more, found -1"},
    {"deepseek_v3", R"({"qk_rope_head_dim": 16777216})", "heads of 16777216 dimensions"},
    {"deepseek_v3", R"({"num_attention_heads": 1048576, "num_key_value_heads": 1048576,
                        "v_head_dim": 16777216})",
     "'num_attention_heads' is 1048576"},
    {"deepseek_v3", R"({"n_shared_experts": 1000000000})", "'n_shared_experts' is 1000000000"},
    {"bailing_moe", R"({"num_shared_experts": -1})", "'num_shared_experts' is -1"},
    {"lfm2", R"({"block_ffn_dim_multiplier": 1e300})", "'block_ffn_dim_multiplier' is 1e+300"},
    {"deepseek_v3", R"({"scoring_func": "softmax"})", "scoring_func"},
    {"deepseek_v3", R"({"n_group": 3})", "n_group"},
    {"deepseek_v3", R"({"num_experts_per_tok": 9})", "num_experts_per_tok"},
    {"deepseek_v3", R"({"rope_scaling": {"type": "spiral"}})", "spiral"},
    {"ernie4_5", R"({"compression_ratio": 2.0})", "compression_ratio"},
    // Each takes memory before its weights are missed.
    {"gemma3n", R"({"text_config": {"altup_num_inputs": 1000000000}})",
     "'altup_num_inputs' must be at most 10000"},
    {"llama", R"({"num_hidden_layers": 1000000000})",
     "config.json: 'num_hidden_layers' must be at most 10000, found 1000000000"},
    {"openelm", R"({"num_transformer_layers": 1000000000})",
     "'num_transformer_layers' must be at most 10000, found 1000000000"},
    {"openelm", R"({"head_dim": 16777216})", "'num_query_heads' of layer 0"},
    {"openelm", R"({"head_dim": 131072})", "heads of 131072 dimensions"},
    {"openelm", R"({"model_dim": 1073741824})", "'model_dim' must be at most 16777216"},
    {"openelm", R"({"model_dim": 16777216})", "'ffn_multipliers' of layer 1 is 1.25"},
    {"exaone4", R"({"layer_types": null, "sliding_window_pattern": "LXG"})",
     "sliding_window_pattern"},
    {"exaone4", R"({"reorder_and_qk_norm": false})", "reorder_and_qk_norm"},
    {"internlm2", R"({"num_key_value_heads": 3})", "num_key_value_heads"},
    {"lfm2", R"({"conv_L_cache": 0})", "conv_L_cache"},
    {"lfm2", R"({"conv_dim": 32})", "conv_dim"},
    {"lfm2", R"({"layer_types": null, "full_attn_idxs": [7]})", "full_attn_idxs"},
    {"llama", R"({"head_dim": 2147483646})", "'head_dim' is 2147483646, expected a positive even"},
    {"llama", R"({"num_attention_heads": 16777216, "head_dim": 256})",
     "2796202 at most, with heads of 256"},
    {"llama", R"({"intermediate_size": 2147483647})",
     "'intermediate_size' must be at most 16777216"},
    // A kind of layer that nobody knows would be taken for another.
    {"gemma3_text", R"({"layer_types": ["frob", "full_attention", "full_attention",
                                        "full_attention"]})",
     "'layer_types' of layer 0 is 'frob', expected full_attention or sliding_attention"},
    {"gemma3n", R"({"text_config": {"layer_types": ["sliding_attention", "full_attention",
                    "full_attention", "sliding_attention", "linear_attention"]}})",
     "text_config: 'layer_types' of layer 4 is 'linear_attention'"},
    {"exaone4", R"({"layer_types": ["full_attention", "chunked_attention", "full_attention",
                                    "full_attention"]})",
     "'layer_types' of layer 1 is 'chunked_attention'"},
    {"llama", R"({"layer_types": ["conv", "conv", "conv"]})", "'layer_types' of layer 0 is 'conv'"},
    {"lfm2", R"({"layer_types": ["conv", "frob", "conv", "full_attention"]})",
     "'layer_types' of layer 1 is 'frob', expected full_attention or conv"},
    {"exaone4", R"({"layer_types": ["full_attention"]})",
     "'layer_types' has 1 entries, expected 4, one a layer"},
    {"exaone_moe", R"({"mlp_layer_types": ["dense", "frob", "sparse"]})",
     "'mlp_layer_types' of layer 1 is 'frob', expected dense or sparse"},
    {"glm4_moe_lite", R"({"mlp_layer_types": ["dense", "frob"]})",
     "'mlp_layer_types' of layer 1 is 'frob'"},
    {"llama", R"({"max_position_embeddings": -1})",
     "'max_position_embeddings' must be positive, found -1"},
    {"gemma3n", R"({"text_config": {"max_position_embeddings": 0}})",
     "text_config: 'max_position_embeddings' must be positive, found 0"},
    {"openelm", R"({"max_context_length": 0})", "'max_context_length' must be positive, found 0"},
    {"llama", R"({"hidden_act": "frob"})", "config.json: 'hidden_act' is 'frob', expected one of"},
    {"gemma", R"({"hidden_activation": "frob"})", "'hidden_activation' is 'frob'"},
    {"gemma3_text", R"({"hidden_activation": "frob"})", "'hidden_activation' is 'frob'"},
    {"gemma3n", R"({"text_config": {"hidden_activation": "frob"}})",
     "'hidden_activation' is 'frob'"},
    {"openelm", R"({"activation_fn_name": "frob"})", "'activation_fn_name' is 'frob'"},
    {"llama", R"({"rope_theta": 0})", "config.json: 'rope_theta' must be positive, found 0"},
    {"gemma3_text", R"({"rope_local_base_freq": 0})",
     "config.json: 'rope_local_base_freq' must be positive, found 0"},
    {"openelm", R"({"rope_freq_constant": -1})", "'rope_freq_constant' must be positive, found -1"},
    {"glm4", R"({"partial_rotary_factor": 0.01})", "'partial_rotary_factor' is 0.01"},
    {"llama", R"({"rms_norm_eps": -1e-5})", "config.json: 'rms_norm_eps' is -1e-05, expected 0"},
    {"cohere", R"({"layer_norm_eps": -1})", "'layer_norm_eps' is -1"},
    {"gemma3n", R"({"text_config": {"rms_norm_eps": -1}})", "text_config: 'rms_norm_eps' is -1"},
    {"deepseek_v3", R"({"n_routed_experts": 0})", "'n_routed_experts' must be positive, found 0"},
    {"phimoe", R"({"num_local_experts": 0})", "'num_local_experts') must be positive, found 0"},
    {"mixtral", R"({"num_local_experts": -1})", "'num_local_experts') must be positive, found -1"},
    {"qwen3_moe", R"({"num_experts": -1})", "('num_experts', "},
    {"mimo", R"({"use_mrope": true})", "use_mrope"},
    {"mixtral", R"({"num_local_experts": null})", "num_local_experts"},
    {"qwen3_moe", R"({"num_experts_per_tok": 0})", "num_experts_per_tok"},
    {"qwen3_moe", R"({"moe_intermediate_size": -2})", "moe_intermediate_size"},
    {"qwen3_moe", R"({"router_temperature": 2})", "router_temperature"},
    {"smollm3", R"({"no_rope_layers": [1, 1]})", "no_rope_layers"},
    {"phimoe", R"({"router_jitter_noise": -1})", "router_jitter_noise"},
    {"phimoe", R"({"num_experts_per_tok": 9})", "num_experts_per_tok"},
    {"phimoe", R"({"rope_scaling": {"type": "linear", "factor": 2.0}})", "longrope"},
};

class BadConfig : public ::testing::TestWithParam<Case> {};

TEST_P(BadConfig, IsRefusedByName) {
  const std::string file =
      (test::golden_folder() / "llm" / GetParam().fixture / "config.json").string();
  Json config = read_json(file);
  EXPECT_NO_THROW(model_types().make(config));
  config.merge_patch(Json::parse(GetParam().change));
  EXPECT_THAT(test::error_of([&] { model_types().make(config); }), HasSubstr(GetParam().expected));
}

TEST(Presets, AreOfTypesThatAreThere) {
  for (const ModelConfiguration& preset : presets().all())
    EXPECT_TRUE(model_types().contains(std::string(model_type_of(preset)))) << preset.id;
}

INSTANTIATE_TEST_SUITE_P(Families, BadConfig, ::testing::ValuesIn(kCases));

}  // namespace
}  // namespace mlxcpp::llm

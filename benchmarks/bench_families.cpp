// Decode and prefill of every family of language models at one shape of about 150 million weights,
// random and 4 bits wide; and decode by the bytes that a token reads, next to Llama's, which shows
// whether a family's code is worse than its size.
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>

#include <CLI/CLI.hpp>

#include "kernels/precision.h"
#include "kernels/thread_pool.h"
#include "llm/registry.h"
#include "lm_common/generate.h"
#include "nn/embedding.h"
#include "nn/quantized.h"
#include "nn/switch_layers.h"
#include "support/report.h"

using namespace mlxcpp;

namespace {

// What every family has, and what its config.json says otherwise; null takes a key out.
constexpr const char* kCommon = R"({
  "vocab_size": 32768, "hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 20,
  "num_attention_heads": 12, "num_key_value_heads": 4, "max_position_embeddings": 4096,
  "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true})";

struct Family {
  const char* model_type;
  const char* differences;
};
const Family kFamilies[] = {
    {"llama", "{}"},
    {"acereason", "{}"},
    {"baichuan_m1", R"({"sliding_window": 1024, "sliding_window_layers": [1,3,5,7,9,11,13,15,17,19],
                        "conv_window": 2, "tie_word_embeddings": false})"},
    {"bitnet", R"({"intermediate_size": 2048, "quantization_config": {"quant_method": "bitnet"}})"},
    {"cohere", R"({"rms_norm_eps": null, "layer_norm_eps": 1e-5, "logit_scale": 0.0625})"},
    {"deepseek_v3",
     R"({"num_key_value_heads": 12, "q_lora_rank": 384, "kv_lora_rank": 256, "qk_nope_head_dim": 64,
         "qk_rope_head_dim": 32, "v_head_dim": 64, "n_routed_experts": 16, "n_shared_experts": 1,
         "num_experts_per_tok": 4, "n_group": 4, "topk_group": 2, "moe_intermediate_size": 256,
         "first_k_dense_replace": 1, "routed_scaling_factor": 2.5, "tie_word_embeddings": false})"},
    {"ernie4_5", R"({"head_dim": 64})"},
    {"exaone4", R"({"head_dim": 64, "sliding_window": 1024, "sliding_window_pattern": "LLLG"})"},
    {"gemma", R"({"head_dim": 64, "hidden_act": "gelu_pytorch_tanh"})"},
    {"gemma2", R"({"head_dim": 64, "hidden_activation": "gelu_pytorch_tanh", "sliding_window": 1024,
                   "query_pre_attn_scalar": 64, "attn_logit_softcapping": 50.0,
                   "final_logit_softcapping": 30.0})"},
    {"gemma3_text", R"({"head_dim": 64, "sliding_window": 512, "query_pre_attn_scalar": 64,
                        "sliding_window_pattern": 6, "rope_local_base_freq": 10000.0})"},
    {"gemma3n_text",
     R"({"head_dim": 64, "intermediate_size": 1024, "num_kv_shared_layers": 10,
         "hidden_size_per_layer_input": 64, "vocab_size_per_layer_input": 32768,
         "laurel_rank": 64, "altup_num_inputs": 4, "altup_active_idx": 0, "sliding_window": 512,
         "activation_sparsity_pattern": [0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0], "final_logit_softcapping": 30.0,
         "rope_local_base_freq": 10000.0})"},
    {"glm4", R"({"head_dim": 64, "partial_rotary_factor": 0.5, "attention_bias": true})"},
    {"granite", R"({"embedding_multiplier": 12.0, "attention_multiplier": 0.125,
                    "residual_multiplier": 0.22, "logits_scaling": 8.0})"},
    {"internlm2", R"({"bias": false})"},
    {"lfm2", R"({"block_ff_dim": 2048, "block_auto_adjust_ff_dim": false, "conv_L_cache": 3,
                 "norm_eps": 1e-5, "full_attn_idxs": [2, 5, 8, 11, 14, 17]})"},
    {"mimo", R"({"attention_bias": true})"},
    {"mistral", R"({"sliding_window": 1024})"},
    {"openelm",
     R"({"model_dim": 768, "num_transformer_layers": 20, "head_dim": 64, "ffn_dim_divisor": 256,
         "num_query_heads": [12,12,12,12,12,12,12,12,12,12,12,12,12,12,12,12,12,12,12,12],
         "num_kv_heads": [4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4],
         "ffn_multipliers": [2.7,2.7,2.7,2.7,2.7,2.7,2.7,2.7,2.7,2.7,2.7,2.7,2.7,2.7,2.7,2.7,2.7,
                             2.7,2.7,2.7],
         "normalize_qk_projections": true, "share_input_output_layers": true,
         "rope_freq_constant": 10000, "hidden_size": null, "num_hidden_layers": null,
         "intermediate_size": null, "num_attention_heads": null, "num_key_value_heads": null,
         "rms_norm_eps": null, "rope_theta": null, "tie_word_embeddings": null,
         "max_position_embeddings": null, "max_context_length": 4096})"},
    {"phi", R"({"intermediate_size": 3072, "rms_norm_eps": null, "layer_norm_eps": 1e-5,
                "partial_rotary_factor": 0.5, "tie_word_embeddings": false})"},
    {"phi3", R"({"original_max_position_embeddings": 4096})"},
    {"phimoe", R"({"intermediate_size": 256, "num_local_experts": 16, "num_experts_per_tok": 2,
                   "tie_word_embeddings": false})"},
    {"qwen2", "{}"},
    {"qwen3", R"({"head_dim": 64})"},
    {"qwen3_moe", R"({"head_dim": 64, "num_experts": 16, "num_experts_per_tok": 4,
                      "moe_intermediate_size": 256, "norm_topk_prob": true})"},
    {"smollm3", "{}"},
    {"starcoder2", R"({"intermediate_size": 3072, "rms_norm_eps": null, "norm_epsilon": 1e-5,
                       "use_bias": true})"},
};

Json config_of(const Family& family) {
  Json config = Json::parse(kCommon);
  config.merge_patch(Json::parse(family.differences));
  config["model_type"] = family.model_type;
  return config;
}

struct Sizes {
  double weights = 0;         // numbers, in millions
  double bytes_of_token = 0;  // that decoding one token reads
};

// Of an embedding that is not the head only a row is read, and of experts only the chosen ones.
Sizes sizes_of(const LanguageModel& model, const Json& config) {
  const double chosen =
      config.contains("num_experts_per_tok") ? config["num_experts_per_tok"].get<double>() : 0.0;
  const bool tied =
      config.value("tie_word_embeddings", config.value("share_input_output_layers", false));
  Sizes out{.weights = static_cast<double>(model.num_parameters()) / 1e6,
            .bytes_of_token = static_cast<double>(model.nbytes())};
  bool first = true;  // the embedding of tokens; further ones are looked up alone
  model.for_each_module([&](const std::string& path, const nn::Module& m) {
    if (dynamic_cast<const nn::Embedding*>(&m)) {
      if (!first || !tied) out.bytes_of_token -= static_cast<double>(m.nbytes());
      first = false;
    }
    const auto* experts = dynamic_cast<const nn::SwitchLinear*>(&m);
    if (experts && path.find("self_attn") == std::string::npos)
      out.bytes_of_token -= static_cast<double>(m.nbytes()) * (1 - chosen / experts->num_experts());
  });
  return out;
}

std::unique_ptr<LanguageModel> random_model(const Json& config) {
  auto model = llm::model_types().make(config);
  nn::quantize_weights(*model, [](const std::string&, const nn::Module& layer) {
    const auto* linear = dynamic_cast<const nn::Linear*>(&layer);
    const bool fits = !linear || linear->input_dims() % 64 == 0;
    return fits ? std::optional(kernels::QuantType{}) : std::nullopt;
  });
  for (const auto& [path, w] : model->parameters()) mx::array(w).eval();
  return model;
}

GenerationInfo generate(const LanguageModel& model, int prompt, int count) {
  GenerateOptions options;
  options.parameters = {.max_tokens = count, .temperature = 0, .ignore_eos = true};
  std::vector<int> ids;
  for (int i = 0; i < prompt; ++i) ids.push_back(100 + i * 37 % 1000);
  Caches caches = model.make_caches({});
  GenerationInfo info;
  for (const Generation& g : mlxcpp::generate(model, caches, ids, std::move(options)))
    if (g.info()) info = *g.info();
  return info;
}

struct Measured {
  std::string model_type;
  Sizes sizes;
  std::vector<double> decode, prefill;  // tokens a second, one a run

  // Bytes that its tokens stand for, a second.
  double gigabytes(const std::vector<double>& speed) const {
    return bench::median(speed) * sizes.bytes_of_token / 1e9;
  }
};

void print_head() {
  fmt::print(
      "| type | weights, M | MB a token | decode, tokens/s | prefill 256, tokens/s | decode, GB/s "
      "| "
      "of llama's | prefill, of llama's |\n"
      "|---|---|---|---|---|---|---|---|\n");
}

void print(const Measured& m, const Measured& llama, bool json) {
  const double decode = m.gigabytes(m.decode) / llama.gigabytes(llama.decode),
               prefill = m.gigabytes(m.prefill) / llama.gigabytes(llama.prefill);
  if (json)
    std::cout << Json{{"bench", "families"},
                      {"model", m.model_type},
                      {"threads", kernels::num_threads()},
                      {"weights", m.sizes.weights},
                      {"megabytes_a_token", m.sizes.bytes_of_token / 1e6},
                      {"decode", bench::median(m.decode)},
                      {"prefill", bench::median(m.prefill)},
                      {"gigabytes_a_second", m.gigabytes(m.decode)},
                      {"of_llama", decode},
                      {"prefill_of_llama", prefill}}
                     .dump()
              << std::endl;
  else
    fmt::print("| {} | {:.0f} | {:.1f} | {:.1f} | {:.0f} | {:.2f} | {:.2f} | {:.2f} |\n",
               m.model_type, m.sizes.weights, m.sizes.bytes_of_token / 1e6, bench::median(m.decode),
               bench::median(m.prefill), m.gigabytes(m.decode), decode, prefill);
  std::fflush(stdout);
}

bool is_wanted(const std::string& type, const std::vector<std::string>& parts) {
  return parts.empty() || std::any_of(parts.begin(), parts.end(), [&](const std::string& part) {
           return type.find(part) != std::string::npos;
         });
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Speed of every family at one shape, with random 4-bit weights.", "bench_families");
  std::string precision = "high";
  std::vector<std::string> only;
  int runs = 3, decode = 48, prefill = 256;
  bool json = false;
  app.add_option("--model", only, "only types whose name contains one of these (and llama)");
  app.add_option("--runs", runs, "of each")->capture_default_str()->check(CLI::Range(1, 1000));
  app.add_option("--decode", decode, "tokens to decode")->capture_default_str();
  app.add_option("--prefill", prefill, "tokens of the prompt")->capture_default_str();
  app.add_option("--precision", precision, "fast, high or exact")
      ->check(CLI::IsMember({"fast", "high", "exact"}))
      ->capture_default_str();
  app.add_flag("--json", json, "one JSON object a line");
  CLI11_PARSE(app, argc, argv);
  try {
    mx::set_default_device(mx::Device::cpu);
    const kernels::PrecisionScope scope(*kernels::precision_from_name(precision));
    std::optional<Measured> llama;  // the first
    if (!json) print_head();
    for (const Family& family : kFamilies) {
      const std::string type = family.model_type;
      if (type != "llama" && !is_wanted(type, only)) continue;
      if (!llm::model_types().contains(type)) {
        fmt::print(stderr, "{}: no such model type yet, left out\n", type);
        continue;
      }
      const Json config = config_of(family);
      const auto model = random_model(config);
      Measured m{type, sizes_of(*model, config), {}, {}};
      generate(*model, 16, 4);
      for (int run = 0; run < runs; ++run) {
        m.prefill.push_back(generate(*model, prefill, 1).prompt_tokens_per_second());
        m.decode.push_back(generate(*model, 1, decode).tokens_per_second());
      }
      if (!llama) llama = m;
      print(m, *llama, json);
    }
    mx::clear_streams();
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_families: {}\n", e.what());
    return 1;
  }
  return 0;
}

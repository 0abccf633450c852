// Sources of what each family's file means: llama.cpp's gguf-py/gguf/tensor_mapping.py and
// convert_hf_to_gguf.py (names, permutations, what is added to norms) and src/llama-model.cpp
// (what is assumed where a key is absent).
#include "weights/gguf_architectures.h"

#include <algorithm>

namespace mlxcpp {
namespace {

std::string key(const GgufFile& g, std::string_view name) {
  return fmt::format("{}.{}", g.need<std::string_view>("general.architecture"), name);
}

template <class T>
void copy(const GgufFile& g, std::string_view name, Json& config, const char* field) {
  if (const auto v = g.find<T>(key(g, name))) config[field] = *v;
}

// A family whose file says nothing about the window's pattern has a fixed one.
void window_pattern(const GgufFile& g, Json& config, int otherwise) {
  const std::string k = key(g, "attention.sliding_window_pattern");
  if (!g.is_list(k)) {
    config["sliding_window_pattern"] = g.get<int>(k, otherwise);
    return;
  }
  for (const bool sliding : g.need<std::vector<bool>>(k))
    config["layer_types"].push_back(sliding ? "sliding_attention" : "full_attention");
}

// 1/sqrt of this scales the queries: head_dim, but hidden/heads in the one size of each generation
// that llama.cpp tells by its number of layers.
int gemma_query_scalar(const Json& c, int layers_of_27b) {
  return c["num_hidden_layers"] == layers_of_27b
             ? c["hidden_size"].get<int>() / c["num_attention_heads"].get<int>()
             : c["head_dim"].get<int>();
}

void gemma(const GgufFile&, Json& c) { c["hidden_activation"] = c["hidden_act"]; }

void gemma2(const GgufFile& g, Json& c) {
  gemma(g, c);
  c["attn_logit_softcapping"] = g.get<float>(key(g, "attn_logit_softcapping"), 50.0f);
  c["final_logit_softcapping"] = g.get<float>(key(g, "final_logit_softcapping"), 30.0f);
  c["sliding_window"] = g.get<int>(key(g, "attention.sliding_window"), 4096);
  c["query_pre_attn_scalar"] = gemma_query_scalar(c, 46);
}

void gemma3(const GgufFile& g, Json& c) {
  gemma(g, c);
  c["sliding_window"] = g.get<int>(key(g, "attention.sliding_window"), 1024);
  window_pattern(g, c, 6);
  c["rope_local_base_freq"] = g.get<float>(key(g, "rope.freq_base_swa"), 10000.0f);
  c["query_pre_attn_scalar"] = gemma_query_scalar(c, 62);
  copy<float>(g, "final_logit_softcapping", c, "final_logit_softcapping");
  if (!g.has(key(g, "rope.freq_base"))) c["rope_theta"] = 1e6;
}

void phi3(const GgufFile& g, Json& c) {
  copy<int>(g, "attention.sliding_window", c, "sliding_window");
  const GgufTensor* long_factor = g.tensor("rope_factors_long.weight");
  const GgufTensor* short_factor = g.tensor("rope_factors_short.weight");
  if (!long_factor || !short_factor) return;
  c["original_max_position_embeddings"] =
      g.need<int>(key(g, "rope.scaling.original_context_length"));
  c["rope_scaling"] = {{"type", "longrope"},
                       {"long_factor", long_factor->floats()},
                       {"short_factor", short_factor->floats()}};
}

const GgufNames kFusedNames = {{"ffn_up", "mlp.gate_up_proj"}};
const GgufNames kFourNorms = {{"ffn_norm", "pre_feedforward_layernorm"},
                              {"post_attention_norm", "post_attention_layernorm"},
                              {"post_ffw_norm", "post_feedforward_layernorm"}};

const std::vector<GgufArchitecture> kArchitectures = {
    {"llama", "llama", "rms_norm_eps", "silu", kPermutedRope},
    {"qwen2", "qwen2", "rms_norm_eps", "silu"},
    {"qwen3", "qwen3", "rms_norm_eps", "silu"},
    {"gemma", "gemma", "rms_norm_eps", "gelu_pytorch_tanh", kNormPlusOne, {}, gemma},
    {"gemma2", "gemma2", "rms_norm_eps", "gelu_pytorch_tanh", kNormPlusOne, kFourNorms, gemma2},
    {"gemma3", "gemma3_text", "rms_norm_eps", "gelu_pytorch_tanh", kNormPlusOne, kFourNorms,
     gemma3},
    {"phi3", "phi3", "rms_norm_eps", "silu", kNothing, kFusedNames, phi3},
};

}  // namespace

const GgufArchitecture& gguf_architecture(const GgufFile& gguf) {
  const auto name = gguf.need<std::string_view>("general.architecture");
  std::vector<std::string_view> known;
  for (const GgufArchitecture& a : kArchitectures) {
    if (a.name == name) return a;
    known.push_back(a.name);
  }
  throw Error("{}: general.architecture '{}' is not supported; known: {}", gguf.where(), name,
              fmt::join(known, ", "));
}

const GgufNames& gguf_outer_names() {
  static const GgufNames names = {
      {"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}};
  return names;
}

const GgufNames& gguf_block_names() {
  static const GgufNames names = {
      {"attn_norm", "input_layernorm"},
      {"attn_q", "self_attn.q_proj"},
      {"attn_k", "self_attn.k_proj"},
      {"attn_v", "self_attn.v_proj"},
      {"attn_qkv", "self_attn.qkv_proj"},
      {"attn_output", "self_attn.o_proj"},
      {"attn_q_norm", "self_attn.q_norm"},
      {"attn_k_norm", "self_attn.k_norm"},
      {"ffn_norm", "post_attention_layernorm"},
      {"ffn_gate", "mlp.gate_proj"},
      {"ffn_up", "mlp.up_proj"},
      {"ffn_down", "mlp.down_proj"},
  };
  return names;
}

}  // namespace mlxcpp

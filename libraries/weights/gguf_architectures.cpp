// Sources of what each family's file means: llama.cpp's gguf-py/gguf/tensor_mapping.py and
// convert_hf_to_gguf.py (names, permutations, what is added to norms) and src/llama-model.cpp
// (what is assumed where a key is absent).
#include "weights/gguf_architectures.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace mlxcpp {
namespace {

std::string key(const GgufFile& g, std::string_view name) {
  return fmt::format("{}.{}", g.need<std::string_view>("general.architecture"), name);
}

template <class T>
void copy(const GgufFile& g, std::string_view name, Json& config, const char* field) {
  if (const auto v = g.find<T>(key(g, name))) config[field] = *v;
}

bool has_tensor(const GgufFile& g, std::string_view name) { return g.tensor(name) != nullptr; }

// Token types, of the encoders.
void token_types(const GgufFile& g, Json& c) {
  const GgufTensor* types = g.tensor("token_types.weight");
  c["type_vocab_size"] = types && !types->shape.empty() ? types->shape[0] : 0;
}

void nomic_bert(const GgufFile& g, Json& c) {
  token_types(g, c);
  c["max_trained_positions"] = c["max_position_embeddings"];
  c["qkv_proj_bias"] = has_tensor(g, "blk.0.attn_qkv.bias");
  c["mlp_fc1_bias"] = has_tensor(g, "blk.0.ffn_up.bias");
  c["mlp_fc2_bias"] = has_tensor(g, "blk.0.ffn_down.bias");
}

// One entry a layer: every `period`-th layer sees everything, the others a window.
void layer_types(Json& c, int period) {
  for (int i = 1; i <= c["num_hidden_layers"].get<int>(); ++i)
    c["layer_types"].push_back(i % period == 0 ? "full_attention" : "sliding_attention");
}

// The window and which layers have it: by the file's list, its period, or the family's period.
void sliding_window(const GgufFile& g, Json& c, int period) {
  copy<int>(g, "attention.sliding_window", c, "sliding_window");
  const std::string k = key(g, "attention.sliding_window_pattern");
  if (g.is_list(k)) {
    for (const bool sliding : g.need<std::vector<bool>>(k))
      c["layer_types"].push_back(sliding ? "sliding_attention" : "full_attention");
    return;
  }
  period = g.get<int>(k, period);
  if (period <= 0) throw Error("{}: '{}' must be positive, found {}", g.where(), k, period);
  c["sliding_window_pattern"] = period;
  layer_types(c, period);
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
  c["sliding_window"] = 1024;
  sliding_window(g, c, 6);
  c["rope_local_base_freq"] = g.get<float>(key(g, "rope.freq_base_swa"), 10000.0f);
  c["query_pre_attn_scalar"] = gemma_query_scalar(c, 62);
  copy<float>(g, "final_logit_softcapping", c, "final_logit_softcapping");
  if (!g.has(key(g, "rope.freq_base"))) c["rope_theta"] = 1e6;
}

// The converter stacks the projections of the further streams, and writes the cut-offs of sparse
// layers in standard deviations (none: minus infinity). llama.cpp takes for granted that all but
// the first 20 layers share keys and values.
void gemma3n(const GgufFile& g, Json& c) {
  gemma(g, c);
  sliding_window(g, c, 5);
  c.erase("sliding_window_pattern");  // layer_types says it
  c["rope_local_base_freq"] = g.get<float>(key(g, "rope.freq_base_swa"), 10000.0f);
  c["final_logit_softcapping"] = g.get<float>(key(g, "final_logit_softcapping"), 30.0f);
  c["hidden_size_per_layer_input"] = g.need<int>(key(g, "embedding_length_per_layer_input"));
  c["altup_num_inputs"] = g.get<int>(key(g, "altup.num_inputs"), 4);
  c["altup_active_idx"] = g.get<int>(key(g, "altup.active_idx"), 0);
  const int layers = c["num_hidden_layers"].get<int>();
  c["num_kv_shared_layers"] =
      g.get<int>(key(g, "attention.shared_kv_layers"), std::max(layers - 20, 0));
  if (const auto scales = g.find<std::vector<float>>(key(g, "activation_sparsity_scale")))
    for (const float s : *scales)
      c["activation_sparsity_pattern"].push_back(0.5 * std::erfc(-s / std::numbers::sqrt2));
  const auto rows = [&](const char* name, const char* field) {
    if (const GgufTensor* t = g.tensor(name); t && t->shape.size() == 2) c[field] = t->shape[0];
  };
  rows("per_layer_token_embd.weight", "vocab_size_per_layer_input");
  rows("blk.0.laurel_l.weight", "laurel_rank");
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

// The converter puts one factor in the place of the published two, for short and long texts.
void phimoe(const GgufFile& g, Json& c) {
  phi3(g, c);
  if (const auto factor = g.find<float>(key(g, "rope.scaling.attn_factor"));
      factor && c.contains("rope_scaling"))
    c["rope_scaling"]["attention_factor"] = *factor;
  c["num_local_experts"] = g.need<int>(key(g, "expert_count"));
  c["num_experts_per_tok"] = g.need<int>(key(g, "expert_used_count"));
  c["lm_head_bias"] = has_tensor(g, "output.bias");
}

// The 13B model has no rope but ALiBi, which llama.cpp tells by its 40 layers.
void baichuan(const GgufFile& g, Json& c) {
  if (c["num_hidden_layers"] == 40)
    throw Error("{}: baichuan with ALiBi (13B) is not supported", g.where());
}

// llama.cpp takes silu where the file says nothing: the key is younger than the family.
void bitnet(const GgufFile& g, Json& c) {
  copy<std::string_view>(g, "hidden_activation", c, "hidden_act");
}

void cohere(const GgufFile& g, Json& c) {
  c["logit_scale"] = g.need<float>(key(g, "logit_scale"));
  c["use_qk_norm"] = has_tensor(g, "blk.0.attn_q_norm.weight");
}

void cohere2(const GgufFile& g, Json& c) {
  cohere(g, c);
  sliding_window(g, c, 4);
}

// Files for latent attention keep its two maps apart, one matrix a head (attn_k_b turned round), as
// the model has them. llama.cpp takes mscale for equal to mscale_all_dim.
void deepseek2(const GgufFile& g, Json& c) {
  constexpr int kSigmoid = 2;  // LLAMA_EXPERT_GATING_FUNC_TYPE_SIGMOID
  if (g.get<int>(key(g, "expert_gating_func"), 1) != kSigmoid)
    throw Error("{}: deepseek2 with softmax routing (DeepSeek V2) is not supported", g.where());
  if (!g.has(key(g, "attention.key_length_mla")))
    throw Error("{}: '{}' is missing: the file was made before latent attention was stored apart",
                g.where(), key(g, "attention.key_length_mla"));
  const int rope = g.need<int>(key(g, "rope.dimension_count"));
  copy<int>(g, "attention.q_lora_rank", c, "q_lora_rank");
  c["kv_lora_rank"] = g.need<int>(key(g, "attention.kv_lora_rank"));
  c["qk_rope_head_dim"] = rope;
  c["qk_nope_head_dim"] = g.need<int>(key(g, "attention.key_length_mla")) - rope;
  c["v_head_dim"] = g.need<int>(key(g, "attention.value_length_mla"));
  c["num_key_value_heads"] = c["num_attention_heads"];
  c.erase("partial_rotary_factor");  // qk_rope_head_dim says it
  c["n_routed_experts"] = g.need<int>(key(g, "expert_count"));
  c["n_shared_experts"] = g.get<int>(key(g, "expert_shared_count"), 0);
  c["num_experts_per_tok"] = g.need<int>(key(g, "expert_used_count"));
  c["moe_intermediate_size"] = g.need<int>(key(g, "expert_feed_forward_length"));
  c["n_group"] = g.get<int>(key(g, "expert_group_count"), 1);
  c["topk_group"] = g.get<int>(key(g, "expert_group_used_count"), 1);
  c["routed_scaling_factor"] = g.get<float>(key(g, "expert_weights_scale"), 1.0f);
  c["norm_topk_prob"] = g.get<bool>(key(g, "expert_weights_norm"), false);
  c["first_k_dense_replace"] = g.get<int>(key(g, "leading_dense_block_count"), 0);
  if (const auto m = g.find<float>(key(g, "rope.scaling.yarn_log_multiplier"));
      m && c.contains("rope_scaling"))
    c["rope_scaling"]["mscale"] = c["rope_scaling"]["mscale_all_dim"] = *m * 10.0;
}

void exaone4(const GgufFile& g, Json& c) {
  if (g.has(key(g, "attention.sliding_window"))) sliding_window(g, c, 4);
  c.erase("sliding_window_pattern");  // a text like "LLLG" there, and layer_types says it
}

void granite(const GgufFile& g, Json& c) {
  copy<float>(g, "attention.scale", c, "attention_multiplier");
  copy<float>(g, "embedding_scale", c, "embedding_multiplier");
  copy<float>(g, "residual_scale", c, "residual_multiplier");
  copy<float>(g, "logit_scale", c, "logits_scaling");
}

void ernie(const GgufFile&, Json& c) { c["use_bias"] = c["attention_bias"]; }

void hunyuan(const GgufFile& g, Json& c) {
  c["use_qk_norm"] = has_tensor(g, "blk.0.attn_q_norm.weight");
}

// A block without keys and values is a short convolution.
void lfm2(const GgufFile& g, Json& c) {
  for (const int heads : g.need<std::vector<int>>(key(g, "attention.head_count_kv")))
    c["layer_types"].push_back(heads == 0 ? "conv" : "full_attention");
  c["conv_L_cache"] = g.need<int>(key(g, "shortconv.l_cache"));
  c["conv_bias"] = has_tensor(g, "blk.0.shortconv.conv.bias");
  c["block_dim"] = c["conv_dim"] = c["hidden_size"];
  c["block_ff_dim"] = c["intermediate_size"];
  c["block_auto_adjust_ff_dim"] = false;
}

// The converter divided and multiplied; llama.cpp's values stand in where a file has no keys.
void minicpm(const GgufFile& g, Json& c) {
  const double layers = c["num_hidden_layers"].get<double>(),
               hidden = c["hidden_size"].get<double>();
  c["scale_emb"] = g.get<float>(key(g, "embedding_scale"), 12.0f);
  const auto residual = g.find<float>(key(g, "residual_scale"));
  c["scale_depth"] = residual ? *residual * std::sqrt(layers) : 1.4;
  const auto logits = g.find<float>(key(g, "logit_scale"));
  c["dim_model_base"] = logits && *logits > 0 ? std::lround(hidden / *logits) : 256;
}

void experts(const GgufFile& g, Json& c) {
  c["num_experts"] = g.need<int>(key(g, "expert_count"));
  c["num_experts_per_tok"] = g.need<int>(key(g, "expert_used_count"));
  copy<int>(g, "expert_feed_forward_length", c, "moe_intermediate_size");
}

void granitemoe(const GgufFile& g, Json& c) {
  granite(g, c);
  experts(g, c);
  c["num_local_experts"] = c["num_experts"];
}

void olmo(const GgufFile& g, Json& c) { copy<float>(g, "attention.clamp_kqv", c, "clip_qkv"); }

// Its config.json has names of its own. The converter cuts the gate's rows from the other half's.
void openelm(const GgufFile& g, Json& c) {
  const double width = c["hidden_size"].get<double>();
  for (const char* other : {"attention_bias", "mlp_bias", "intermediate_size",
                            "num_attention_heads", "num_key_value_heads"})
    c.erase(other);
  const std::pair<const char*, const char*> names[] = {
      {"hidden_size", "model_dim"},         {"num_hidden_layers", "num_transformer_layers"},
      {"hidden_act", "activation_fn_name"}, {"max_position_embeddings", "max_context_length"},
      {"rope_theta", "rope_freq_constant"}, {"tie_word_embeddings", "share_input_output_layers"}};
  for (const auto& [usual, published] : names) {
    c[published] = c[usual];
    c.erase(usual);
  }
  for (const int rows : g.need<std::vector<int>>(key(g, "feed_forward_length")))
    c["ffn_multipliers"].push_back(rows / width);
  c["ffn_dim_divisor"] = 1;
  c["ffn_gate_apart"] = true;
  c["num_query_heads"] = g.need<std::vector<int>>(key(g, "attention.head_count"));
  c["num_kv_heads"] = g.need<std::vector<int>>(key(g, "attention.head_count_kv"));
  c["normalize_qk_projections"] = has_tensor(g, "blk.0.attn_q_norm.weight");
}

// OLMo 3 is told from OLMo 2 by its window.
void olmo2(const GgufFile& g, Json& c) {
  if (!g.has(key(g, "attention.sliding_window"))) return;
  c["model_type"] = "olmo3";
  sliding_window(g, c, 4);
}

void olmoe(const GgufFile& g, Json& c) {
  experts(g, c);
  c["norm_topk_prob"] = false;
}

void qwen2moe(const GgufFile& g, Json& c) {
  experts(g, c);
  c["norm_topk_prob"] = false;
  c["decoder_sparse_step"] = 1;
  copy<int>(g, "expert_shared_feed_forward_length", c, "shared_expert_intermediate_size");
}

void qwen3moe(const GgufFile& g, Json& c) {
  experts(g, c);
  c["norm_topk_prob"] = true;
  c["decoder_sparse_step"] = 1;
  c["mlp_only_layers"] = Json::array();
}

void seed_oss(const GgufFile& g, Json& c) {
  c["attention_out_bias"] = has_tensor(g, "blk.0.attn_output.bias");
}

// Every fourth layer does not rotate.
void smollm3(const GgufFile&, Json& c) {
  for (int i = 1; i <= c["num_hidden_layers"].get<int>(); ++i)
    c["no_rope_layers"].push_back(i % 4 == 0 ? 0 : 1);
}

void stablelm(const GgufFile& g, Json& c) {
  c["use_qkv_bias"] = c["attention_bias"];
  c["qk_layernorm"] = has_tensor(g, "blk.0.attn_q_norm.weight");
  copy<bool>(g, "use_parallel_residual", c, "use_parallel_residual");
}

void starcoder2(const GgufFile& g, Json& c) {
  c["use_bias"] = has_tensor(g, "blk.0.ffn_up.bias");
  copy<int>(g, "attention.sliding_window", c, "sliding_window");
}

const GgufNames kBitNet = {{"attn_sub_norm", "self_attn.attn_sub_norm"},
                           {"ffn_sub_norm", "mlp.ffn_sub_norm"}};
const GgufNames kDeepseek2 = {{"attn_q_a", "self_attn.q_a_proj"},
                              {"attn_q_a_norm", "self_attn.q_a_layernorm"},
                              {"attn_q_b", "self_attn.q_b_proj"},
                              {"attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"},
                              {"attn_kv_a_norm", "self_attn.kv_a_layernorm"},
                              {"attn_k_b", "self_attn.embed_q"},
                              {"attn_v_b", "self_attn.unembed_out"},
                              {"exp_probs_b", "mlp.gate.e_score_correction_bias", GgufName::whole},
                              {"ffn_gate_shexp", "mlp.shared_experts.gate_proj"},
                              {"ffn_up_shexp", "mlp.shared_experts.up_proj"},
                              {"ffn_down_shexp", "mlp.shared_experts.down_proj"}};
const GgufNames kFusedMlp = {{"ffn_up", "mlp.gate_up_proj"}};
const GgufNames kPostNorms = {{"post_attention_norm", "post_attention_layernorm"},
                              {"post_ffw_norm", "post_feedforward_layernorm"}};
const GgufNames kFourNorms = {{"ffn_norm", "pre_feedforward_layernorm"},
                              {"post_attention_norm", "post_attention_layernorm"},
                              {"post_ffw_norm", "post_feedforward_layernorm"}};
const GgufNames kGemma3n = {{"per_layer_token_embd", "model.embed_tokens_per_layer"},
                            {"per_layer_model_proj", "model.per_layer_model_projection"},
                            {"per_layer_proj_norm", "model.per_layer_projection_norm"},
                            {"altup_proj", "model.altup_projections"},
                            {"altup_unembd_proj", "model.altup_unembed_projections"},
                            {"ffn_norm", "pre_feedforward_layernorm"},
                            {"post_attention_norm", "post_attention_layernorm"},
                            {"post_ffw_norm", "post_feedforward_layernorm"},
                            {"inp_gate", "per_layer_input_gate"},
                            {"proj", "per_layer_projection"},
                            {"post_norm", "post_per_layer_input_norm"},
                            {"altup_correct_coef", "altup.correction_coefs"},
                            {"altup_correct_scale", "altup.correct_output_scale", GgufName::whole},
                            {"altup_predict_coef", "altup.prediction_coefs"},
                            {"altup_router", "altup.modality_router"},
                            {"altup_router_norm", "altup.router_norm"},
                            {"laurel_l", "laurel.linear_left"},
                            {"laurel_r", "laurel.linear_right"},
                            {"laurel_post_norm", "laurel.post_laurel_norm"}};
const GgufNames kGlm4 = {{"ffn_up", "mlp.gate_up_proj"},
                         {"post_attention_norm", "post_self_attn_layernorm"},
                         {"post_ffw_norm", "post_mlp_layernorm"}};
const GgufNames kGraniteMoe = {{"ffn_gate_inp", "block_sparse_moe.router.layer"},
                               {"ffn_gate_exps", "block_sparse_moe.switch_mlp.gate_proj"},
                               {"ffn_up_exps", "block_sparse_moe.switch_mlp.up_proj"},
                               {"ffn_down_exps", "block_sparse_moe.switch_mlp.down_proj"}};
const GgufNames kHunyuan = {{"attn_q_norm", "self_attn.query_layernorm"},
                            {"attn_k_norm", "self_attn.key_layernorm"}};
const GgufNames kLfm2 = {{"token_embd_norm", "model.embedding_norm"},
                         {"output_norm", "model.embedding_norm"},
                         {"attn_norm", "operator_norm"},
                         {"ffn_norm", "ffn_norm"},
                         {"ffn_gate", "feed_forward.w1"},
                         {"ffn_up", "feed_forward.w3"},
                         {"ffn_down", "feed_forward.w2"},
                         {"attn_output", "self_attn.out_proj"},
                         {"attn_q_norm", "self_attn.q_layernorm"},
                         {"attn_k_norm", "self_attn.k_layernorm"},
                         {"shortconv.conv", "conv.conv", GgufName::as_filter},
                         {"shortconv.in_proj", "conv.in_proj"},
                         {"shortconv.out_proj", "conv.out_proj"}};
const GgufNames kOpenElm = {{"token_embd", "transformer.token_embeddings"},
                            {"output_norm", "transformer.norm"},
                            {"attn_norm", "attn_norm"},
                            {"attn_qkv", "attn.qkv_proj"},
                            {"attn_output", "attn.out_proj"},
                            {"attn_q_norm", "attn.q_norm"},
                            {"attn_k_norm", "attn.k_norm"},
                            {"ffn_norm", "ffn_norm"},
                            {"ffn_gate", "ffn.gate_proj"},
                            {"ffn_up", "ffn.up_proj"},
                            {"ffn_down", "ffn.proj_2"}};
const GgufNames kPhi = {{"output_norm", "model.final_layernorm"},
                        {"attn_output", "self_attn.dense"},
                        {"ffn_up", "mlp.fc1"},
                        {"ffn_down", "mlp.fc2"}};
const GgufNames kPhimoe = {{"ffn_gate_inp", "block_sparse_moe.gate"},
                           {"ffn_gate_exps", "block_sparse_moe.switch_mlp.gate_proj"},
                           {"ffn_up_exps", "block_sparse_moe.switch_mlp.up_proj"},
                           {"ffn_down_exps", "block_sparse_moe.switch_mlp.down_proj"}};
const GgufNames kSeedOss = {{"post_attention_norm", "post_attention_layernorm"}};
const GgufNames kStarcoder2 = {{"ffn_up", "mlp.c_fc"}, {"ffn_down", "mlp.c_proj"}};
const GgufNames kBert = {{"token_embd", "embeddings.word_embeddings"},
                         {"position_embd", "embeddings.position_embeddings"},
                         {"token_types", "embeddings.token_type_embeddings"},
                         {"token_embd_norm", "embeddings.LayerNorm"},
                         {"attn_q", "attention.self.query"},
                         {"attn_k", "attention.self.key"},
                         {"attn_v", "attention.self.value"},
                         {"attn_output", "attention.output.dense"},
                         {"attn_output_norm", "attention.output.LayerNorm"},
                         {"ffn_up", "intermediate.dense"},
                         {"ffn_down", "output.dense"},
                         {"layer_output_norm", "output.LayerNorm"}};
const GgufNames kNomicBert = {{"token_embd", "embeddings.word_embeddings"},
                              {"token_types", "embeddings.token_type_embeddings"},
                              {"token_embd_norm", "emb_ln"},
                              {"attn_qkv", "attn.Wqkv"},
                              {"attn_output", "attn.out_proj"},
                              {"attn_output_norm", "norm1"},
                              {"ffn_up", "mlp.fc11"},
                              {"ffn_gate", "mlp.fc12"},
                              {"ffn_down", "mlp.fc2"},
                              {"layer_output_norm", "norm2"}};

// Where a row names another model_type than its own, the converter has already made the tensors
// that class's (split, for one).
const std::vector<GgufArchitecture> kArchitectures = {
    {"llama", "llama", kPermutedRope},
    {"baichuan", "llama", kPermutedRope, {}, baichuan},
    {"bert", "bert", kLayerNorm, kBert, token_types, "gelu", "layer_norm_eps", "encoder.layer."},
    {"bitnet", "bitnet", kNothing, kBitNet, bitnet},
    {"cohere2", "cohere2", kLayerNorm, {}, cohere2, "silu", "layer_norm_eps"},
    {"command-r", "cohere", kLayerNorm, {}, cohere, "silu", "layer_norm_eps"},
    {"deepseek2", "deepseek_v3", kNothing, kDeepseek2, deepseek2},
    {"ernie4_5", "ernie4_5", kNothing, {}, ernie},
    {"exaone4", "exaone4", kNothing, kPostNorms, exaone4},
    {"gemma", "gemma", kNormPlusOne, {}, gemma, "gelu_pytorch_tanh"},
    {"gemma2", "gemma2", kNormPlusOne, kFourNorms, gemma2, "gelu_pytorch_tanh"},
    {"gemma3", "gemma3_text", kNormPlusOne, kFourNorms, gemma3, "gelu_pytorch_tanh"},
    {"gemma3n", "gemma3n_text", kNothing, kGemma3n, gemma3n, "gelu_pytorch_tanh"},
    {"glm4", "glm4", kNothing, kGlm4},
    {"granite", "granite", kPermutedRope, {}, granite},
    {"granitemoe", "granitemoe", kPermutedRope, kGraniteMoe, granitemoe},
    {"hunyuan-dense", "hunyuan_v1_dense", kNothing, kHunyuan, hunyuan},
    {"internlm2", "llama", kPermutedRope},
    {"lfm2", "lfm2", kNothing, kLfm2, lfm2, "silu", "norm_eps"},
    {"minicpm", "minicpm", kPermutedRope, {}, minicpm},
    {"nomic-bert", "nomic_bert", kLayerNorm, kNomicBert, nomic_bert, "silu", "layer_norm_epsilon",
     "encoder.layers."},
    {"olmo", "olmo", kPermutedRope | kLayerNorm, {}, olmo, "silu", "layer_norm_eps"},
    {"olmo2", "olmo2", kNothing, kPostNorms, olmo2},
    {"olmoe", "olmoe", kNothing, {}, olmoe},
    {"openelm", "openelm", kLayersDiffer, kOpenElm, openelm, "silu", "rms_norm_eps",
     "transformer.layers."},
    {"phi2", "phi", kLayerNorm, kPhi, nullptr, "gelu_new", "layer_norm_eps"},
    {"phi3", "phi3", kNothing, kFusedMlp, phi3},
    {"phimoe", "phimoe", kNothing, kPhimoe, phimoe},
    {"qwen2", "qwen2"},
    {"qwen2moe", "qwen2_moe", kNothing, {}, qwen2moe},
    {"qwen3", "qwen3"},
    {"qwen3moe", "qwen3_moe", kNothing, {}, qwen3moe},
    {"seed_oss", "seed_oss", kNothing, kSeedOss, seed_oss},
    {"smollm3", "smollm3", kPermutedRope, {}, smollm3},
    {"stablelm", "stablelm", kLayerNorm, {}, stablelm, "silu", "layer_norm_eps"},
    {"starcoder2", "starcoder2", kLayerNorm, kStarcoder2, starcoder2, "gelu_pytorch_tanh",
     "norm_epsilon"},
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
      {"ffn_gate_inp", "mlp.gate"},
      {"ffn_gate_exps", "mlp.switch_mlp.gate_proj"},
      {"ffn_up_exps", "mlp.switch_mlp.up_proj"},
      {"ffn_down_exps", "mlp.switch_mlp.down_proj"},
      {"ffn_gate_inp_shexp", "mlp.shared_expert_gate", GgufName::as_row},
      {"ffn_gate_shexp", "mlp.shared_expert.gate_proj"},
      {"ffn_up_shexp", "mlp.shared_expert.up_proj"},
      {"ffn_down_shexp", "mlp.shared_expert.down_proj"},
  };
  return names;
}

}  // namespace mlxcpp

#include "core/config_keys.h"

#include <algorithm>
#include <map>
#include <set>

namespace mlxcpp {
namespace {

const std::set<std::string_view> kBookkeeping = {
    // What the checkpoint is and who wrote it.
    "_class_name",
    "_commit_hash",
    "_diffusers_version",
    "_name_or_path",
    "architectures",
    "auto_map",
    "custom_pipelines",
    "is_llama_config",
    "model_name",
    "model_type",
    "name_or_path",
    "tokenizer_class",
    "transformers.js_config",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
    "version",
    // Numbers' types and devices: weights have their own, activations are ours to choose.
    "device_map",
    "dtype",
    "residual_in_fp32",
    "torch_dtype",
    "torchscript",
    "use_bfloat16",
    // Quantisation is read with the weights (weights/quantization.cpp).
    "quantization",
    "quantization_config",
    // The tokenizer's part.
    "bos_token_id",
    "cls_token_id",
    "decoder_start_token_id",
    "eos_token_id",
    "mask_token_id",
    "model_max_length",
    "pad_token_id",
    "prefix",
    "sep_token_id",
    "tokenizer_model_max_length",
    "tokenizer_padding_side",
    "unk_token_id",
    // How other implementations run it.
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_attn_implementation_internal",
    "_flash_attn_2_enabled",
    "attn_implementation",
    "cache_implementation",
    "ep_size",
    "gradient_checkpointing",
    "logits_to_keep",
    "num_logits_to_keep",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "output_scores",
    "pretraining_tp",
    "return_dict",
    "return_dict_in_generate",
    "use_cache",
    "use_flash_attention",
    "use_flash_attn",
    "use_return_dict",
    // Initial values and training: dropout, noise and losses.
    "attention_dropout",
    "attention_dropout_prob",
    "attention_probs_dropout_prob",
    "attn_pdrop",
    "aux_loss_alpha",
    "classifier_dropout",
    "classifier_dropout_prob",
    "embd_pdrop",
    "embedding_dropout",
    "embedding_initializer_range",
    "ffn_dropout",
    "ffn_pdrop",
    "hidden_dropout",
    "hidden_dropout_prob",
    "init_method",
    "initializer_cutoff_factor",
    "initializer_factor",
    "initializer_range",
    "input_jitter_noise",
    "mlp_dropout",
    "neftune_noise_alpha",
    "output_dropout",
    "resid_dropout",
    "resid_pdrop",
    "residual_dropout",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "router_z_loss_coef",
    "seq_aux",
    // Generation settings, which older transformers kept here.
    "bad_words_ids",
    "begin_suppress_tokens",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "remove_invalid_values",
    "repetition_penalty",
    "suppress_tokens",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
    // Heads for tasks other than the checkpoint's own.
    "finetuning_task",
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "task_specific_params",
    // Draft heads: their weights are left out, and no answer depends on them.
    "mtp_num_hidden_layers",
    "num_nextn_predict_layers",
};

const std::map<std::string_view, Json> kOnly = {
    {"add_cross_attention", false}, {"chunk_size_feed_forward", 0},   {"is_decoder", false},
    {"is_encoder_decoder", false},  {"pruned_heads", Json::object()}, {"rope_interleaved", false},
    {"tf_legacy_loss", false},      {"tie_encoder_decoder", false},   {"use_mrope", false},
};

}  // namespace

bool is_bookkeeping_key(std::string_view key) { return kBookkeeping.count(key) > 0; }

const Json* only_supported_value(std::string_view key) {
  const auto it = kOnly.find(key);
  return it == kOnly.end() ? nullptr : &it->second;
}

}  // namespace mlxcpp

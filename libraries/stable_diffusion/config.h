// Configurations of the parts of a diffusers pipeline: fields and defaults as diffusers and
// transformers have them. A field that changes the computation and is not supported is an Error
// that names it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/json.h"

namespace mlxcpp::sd {

// transformers: CLIPTextConfig.
struct ClipTextConfig {
  int vocab_size = 49408, hidden_size = 512, intermediate_size = 2048;
  int num_hidden_layers = 12, num_attention_heads = 8, max_position_embeddings = 77;
  int projection_dim = 512, eos_token_id = 49407;
  float layer_norm_eps = 1e-5f;
  std::string hidden_act = "quick_gelu";
  bool with_projection = false;  // architectures: CLIPTextModelWithProjection
};
ClipTextConfig read_clip_text_config(const Json& json, const std::string& where);

// diffusers: UNet2DConditionModel. Lists have one entry a block, from the input down.
struct UNetConfig {
  int in_channels = 4, out_channels = 4;
  bool center_input_sample = false, flip_sin_to_cos = true;
  float freq_shift = 0;
  std::vector<bool> down_cross_attention, up_cross_attention;  // from down_block_types, ...
  bool mid_block = true;
  std::vector<int> block_out_channels = {320, 640, 1280, 1280};
  std::vector<int> layers_per_block, cross_attention_dim, num_heads;
  std::vector<std::vector<int>> down_transformer_layers, up_transformer_layers;  // block, layer
  int mid_transformer_layers = 1;
  int downsample_padding = 1;
  float mid_block_scale_factor = 1;
  std::string act_fn = "silu";
  int norm_num_groups = 32;
  float norm_eps = 1e-5f;
  bool text_time = false;  // addition_embed_type "text_time" (SDXL)
  int addition_time_embed_dim = 0, projection_class_embeddings_input_dim = 0;
  int time_embedding_dim = 0;                  // 4 x the first block's channels
  std::optional<int> time_cond_proj_dim = {};  // guidance as an input (LCM)
  int conv_in_kernel = 3, conv_out_kernel = 3;
};
UNetConfig read_unet_config(const Json& json, const std::string& where);

// diffusers: AutoencoderKL.
struct AutoencoderConfig {
  int in_channels = 3, out_channels = 3, latent_channels = 4;
  std::vector<int> block_out_channels = {64};
  int layers_per_block = 1;
  std::string act_fn = "silu";
  int norm_num_groups = 32;
  float scaling_factor = 0.18215f;
  bool use_quant_conv = true, use_post_quant_conv = true, mid_block_add_attention = true;

  int scale() const { return 1 << (block_out_channels.size() - 1); }  // pixels a latent
};
AutoencoderConfig read_autoencoder_config(const Json& json, const std::string& where);

}  // namespace mlxcpp::sd

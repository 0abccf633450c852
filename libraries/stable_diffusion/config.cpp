#include "stable_diffusion/config.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <fmt/ranges.h>

namespace mlxcpp::sd {
namespace {

constexpr int kMostChannels = 1 << 16, kMostLayers = 256, kMostBlocks = 16;

// A ConfigReader that knows which keys were asked for.
class Fields {
 public:
  Fields(const Json& json, const std::string& where) : reader_(json, where) {}

  template <class T>
  void need(const char* key, T& out) {
    seen_.insert(key);
    reader_.need(key, out);
  }
  template <class T>
  void maybe(const char* key, T& out) {
    seen_.insert(key);
    reader_.maybe(key, out);
  }
  // A whole number between bounds.
  void size(const char* key, int& out, int most, int least = 1) {
    maybe(key, out);
    check(key, out, most, least);
  }
  void check(const char* key, int value, int most, int least = 1) const {
    if (value < least || value > most)
      throw Error("{}: '{}' must be between {} and {}, found {}", where(), key, least, most, value);
  }
  // A number for all blocks, or a list with one each.
  std::vector<int> each(const char* key, size_t blocks, int otherwise, int most, int least = 1) {
    Json value;
    maybe(key, value);
    std::vector<int> out;
    if (value.is_null())
      out.assign(blocks, otherwise);
    else if (value.is_array())
      reader_.maybe(key, out);
    else
      reader_.maybe(key, otherwise), out.assign(blocks, otherwise);
    if (out.size() != blocks)
      throw Error("{}: '{}' has {} entries, expected {}, one a block", where(), key, out.size(),
                  blocks);
    for (const int x : out) check(key, x, most, least);
    return out;
  }
  // A field of which one value is supported: absent, null or that.
  void only(const char* key, const Json& value) {
    seen_.insert(key);
    const auto it = json().find(key);
    if (it != json().end() && !it->is_null() && *it != value)
      throw Error("{}: '{}' is {}, which is not supported; only {} is", where(), key, it->dump(),
                  value.dump());
  }
  void ignore(std::initializer_list<const char*> keys) { seen_.insert(keys.begin(), keys.end()); }
  // Every key must have been asked for, or say nothing.
  void finish() const {
    for (const auto& [key, value] : json().items())
      if (!seen_.contains(key) && !key.starts_with("_") && !value.is_null() && value != false)
        throw Error("{}: '{}' is not known here, and may change what is computed; found {}",
                    where(), key, value.dump());
  }
  const Json& json() const { return reader_.json(); }
  const std::string& where() const { return reader_.where(); }

 private:
  ConfigReader reader_;
  std::set<std::string> seen_;
};

void check_heads(const Fields& f, const char* key, int channels, int heads) {
  if (channels % heads != 0)
    throw Error("{}: '{}': {} channels do not divide into {} heads", f.where(), key, channels,
                heads);
}

void check_groups(const Fields& f, const std::vector<int>& channels, int groups) {
  for (const int c : channels)
    if (c % groups != 0)
      throw Error("{}: 'norm_num_groups' is {}, which does not divide {} channels", f.where(),
                  groups, c);
}

std::vector<int> block_channels(Fields& f, std::vector<int> otherwise) {
  f.maybe("block_out_channels", otherwise);
  if (otherwise.empty() || otherwise.size() > kMostBlocks)
    throw Error("{}: 'block_out_channels' has {} entries, expected 1 to {}", f.where(),
                otherwise.size(), kMostBlocks);
  for (const int c : otherwise) f.check("block_out_channels", c, kMostChannels);
  return otherwise;
}

// Block types, of which `plain` and `cross` are known: which are cross?
std::vector<bool> cross_blocks(Fields& f, const char* key, size_t blocks, const char* plain,
                               const char* cross, std::vector<std::string> types) {
  f.maybe(key, types);
  if (types.size() != blocks)
    throw Error("{}: '{}' has {} entries, expected {} as 'block_out_channels'", f.where(), key,
                types.size(), blocks);
  std::vector<bool> out;
  for (const std::string& type : types) {
    if (type != plain && type != cross)
      throw Error("{}: '{}': block type '{}' is not supported; '{}' and '{}' are", f.where(), key,
                  type, plain, cross);
    out.push_back(type == cross);
  }
  return out;
}

// transformer_layers_per_block: a number, a number each block, or a list each block.
std::vector<std::vector<int>> transformer_layers(Fields& f, const char* key, size_t blocks,
                                                 const std::vector<int>& layers,
                                                 const Json& value) {
  std::vector<std::vector<int>> out;
  const auto fail = [&] {
    throw Error("{}: '{}' is {}, expected a whole number, or a list with one each block", f.where(),
                key, value.dump());
  };
  if (value.is_array() && value.size() != blocks) fail();
  for (size_t i = 0; i < blocks; ++i) {
    const Json& entry = value.is_array() ? value[i] : value;
    std::vector<int> each;
    for (int j = 0; j < layers[i]; ++j) {
      if (entry.is_array() && static_cast<int>(entry.size()) != layers[i]) fail();
      const Json& n = entry.is_array() ? entry[j] : entry;
      if (!n.is_number_integer()) fail();
      each.push_back(n.get<int>());
      f.check(key, each.back(), kMostLayers);
    }
    out.push_back(std::move(each));
  }
  return out;
}

}  // namespace

ClipTextConfig read_clip_text_config(const Json& json, const std::string& where) {
  Fields f(json, where);
  ClipTextConfig c;
  f.size("vocab_size", c.vocab_size, 1 << 24);
  f.size("hidden_size", c.hidden_size, kMostChannels);
  f.size("intermediate_size", c.intermediate_size, 1 << 20);
  f.size("num_hidden_layers", c.num_hidden_layers, kMostLayers);
  f.size("num_attention_heads", c.num_attention_heads, kMostChannels);
  f.size("max_position_embeddings", c.max_position_embeddings, 1 << 16, 2);
  f.size("projection_dim", c.projection_dim, kMostChannels);
  f.maybe("eos_token_id", c.eos_token_id);
  f.maybe("layer_norm_eps", c.layer_norm_eps);
  f.maybe("hidden_act", c.hidden_act);
  check_heads(f, "num_attention_heads", c.hidden_size, c.num_attention_heads);
  std::vector<std::string> architectures;
  f.maybe("architectures", architectures);
  for (const std::string& a : architectures) {
    if (a != "CLIPTextModel" && a != "CLIPTextModelWithProjection")
      throw Error(
          "{}: text encoder '{}' is not supported; CLIPTextModel and "
          "CLIPTextModelWithProjection are",
          where, a);
    c.with_projection = a == "CLIPTextModelWithProjection";
  }
  return c;  // transformers configs carry settings of generation, too: the rest changes nothing
}

UNetConfig read_unet_config(const Json& json, const std::string& where) {
  Fields f(json, where);
  UNetConfig c;
  f.only("_class_name", "UNet2DConditionModel");
  f.size("in_channels", c.in_channels, kMostChannels);
  f.size("out_channels", c.out_channels, kMostChannels);
  f.maybe("center_input_sample", c.center_input_sample);
  f.maybe("flip_sin_to_cos", c.flip_sin_to_cos);
  f.maybe("freq_shift", c.freq_shift);
  c.block_out_channels = block_channels(f, c.block_out_channels);
  const size_t blocks = c.block_out_channels.size();
  c.down_cross_attention = cross_blocks(
      f, "down_block_types", blocks, "DownBlock2D", "CrossAttnDownBlock2D",
      {"CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"});
  c.up_cross_attention =
      cross_blocks(f, "up_block_types", blocks, "UpBlock2D", "CrossAttnUpBlock2D",
                   {"UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"});
  f.only("mid_block_type", "UNetMidBlock2DCrossAttn");
  if (const auto it = json.find("mid_block_type"); it != json.end()) c.mid_block = !it->is_null();
  c.layers_per_block = f.each("layers_per_block", blocks, 2, kMostLayers);
  c.cross_attention_dim = f.each("cross_attention_dim", blocks, 1280, kMostChannels);
  // "attention_head_dim" is the number of heads, for reasons of history, unless the newer field is
  // there (diffusers, unet_2d_condition.py).
  const auto historic = f.each("attention_head_dim", blocks, 8, kMostChannels);
  c.num_heads = f.each("num_attention_heads", blocks, 0, kMostChannels, 0);
  for (size_t i = 0; i < blocks; ++i) {
    if (c.num_heads[i] == 0) c.num_heads[i] = historic[i];
    if (c.down_cross_attention[i] || c.up_cross_attention[blocks - 1 - i] || i + 1 == blocks)
      check_heads(f, "attention_head_dim", c.block_out_channels[i], c.num_heads[i]);
  }

  Json down = 1, up;
  f.maybe("transformer_layers_per_block", down);
  f.maybe("reverse_transformer_layers_per_block", up);
  c.down_transformer_layers =
      transformer_layers(f, "transformer_layers_per_block", blocks, c.layers_per_block, down);
  c.mid_transformer_layers = c.down_transformer_layers.back().front();  // as diffusers
  auto up_layers = c.layers_per_block;
  std::reverse(up_layers.begin(), up_layers.end());
  for (int& n : up_layers) ++n;
  if (up.is_null()) {
    up = down;
    if (up.is_array()) {
      for (const Json& entry : up)
        if (entry.is_array())
          throw Error(
              "{}: 'reverse_transformer_layers_per_block' is needed where "
              "'transformer_layers_per_block' holds lists",
              where);
      std::reverse(up.begin(), up.end());
    }
  }
  c.up_transformer_layers =
      transformer_layers(f, "reverse_transformer_layers_per_block", blocks, up_layers, up);

  f.size("downsample_padding", c.downsample_padding, 1, 0);
  f.maybe("mid_block_scale_factor", c.mid_block_scale_factor);
  f.maybe("act_fn", c.act_fn);
  f.size("norm_num_groups", c.norm_num_groups, kMostChannels);
  check_groups(f, c.block_out_channels, c.norm_num_groups);
  f.maybe("norm_eps", c.norm_eps);
  f.only("addition_embed_type", "text_time");
  if (const auto it = json.find("addition_embed_type"); it != json.end())
    c.text_time = !it->is_null();
  f.maybe("addition_time_embed_dim", c.addition_time_embed_dim);
  f.maybe("projection_class_embeddings_input_dim", c.projection_class_embeddings_input_dim);
  if (c.text_time) {
    f.check("addition_time_embed_dim", c.addition_time_embed_dim, kMostChannels);
    f.check("projection_class_embeddings_input_dim", c.projection_class_embeddings_input_dim,
            kMostChannels, 6 * c.addition_time_embed_dim + 1);
  }
  c.time_embedding_dim = 4 * c.block_out_channels[0];
  f.size("time_embedding_dim", c.time_embedding_dim, 1 << 20);
  f.maybe("time_cond_proj_dim", c.time_cond_proj_dim);
  if (c.time_cond_proj_dim) f.check("time_cond_proj_dim", *c.time_cond_proj_dim, kMostChannels);
  for (const auto& [key, kernel] : {std::pair("conv_in_kernel", &c.conv_in_kernel),
                                    std::pair("conv_out_kernel", &c.conv_out_kernel)}) {
    f.size(key, *kernel, 31);
    if (*kernel % 2 == 0) throw Error("{}: '{}' must be odd, found {}", where, key, *kernel);
  }

  f.only("only_cross_attention", false);
  if (!f.json().contains("encoder_hid_dim_type")) f.only("encoder_hid_dim", nullptr);
  f.only("encoder_hid_dim_type", nullptr);
  f.only("dual_cross_attention", false);
  f.only("class_embed_type", nullptr);
  f.only("num_class_embeds", nullptr);
  f.only("resnet_time_scale_shift", "default");
  f.only("resnet_skip_time_act", false);
  f.only("resnet_out_scale_factor", 1.0);
  f.only("time_embedding_type", "positional");
  f.only("time_embedding_act_fn", nullptr);
  f.only("timestep_post_act", nullptr);
  f.only("attention_type", "default");
  f.only("class_embeddings_concat", false);
  f.only("mid_block_only_cross_attention", nullptr);
  f.only("cross_attention_norm", nullptr);
  // use_linear_projection: a 1x1 convolution is the same; upcast_attention: scores are in f32 here.
  f.ignore({"sample_size", "use_linear_projection", "upcast_attention", "dropout",
            "encoder_hid_dim", "addition_embed_type_num_heads", "decay", "inv_gamma", "min_decay",
            "optimization_step", "power", "update_after_step", "use_ema_warmup"});
  f.finish();
  return c;
}

AutoencoderConfig read_autoencoder_config(const Json& json, const std::string& where) {
  Fields f(json, where);
  AutoencoderConfig c;
  f.only("_class_name", "AutoencoderKL");
  f.size("in_channels", c.in_channels, kMostChannels);
  f.size("out_channels", c.out_channels, kMostChannels);
  f.size("latent_channels", c.latent_channels, kMostChannels);
  c.block_out_channels = block_channels(f, c.block_out_channels);
  f.size("layers_per_block", c.layers_per_block, kMostLayers);
  f.maybe("act_fn", c.act_fn);
  f.size("norm_num_groups", c.norm_num_groups, kMostChannels);
  check_groups(f, c.block_out_channels, c.norm_num_groups);
  f.maybe("scaling_factor", c.scaling_factor);
  if (!(c.scaling_factor > 0 && std::isfinite(c.scaling_factor) &&
        std::isfinite(1 / c.scaling_factor)))
    throw Error("{}: 'scaling_factor' must be positive and finite, found {}", where,
                c.scaling_factor);
  f.maybe("use_quant_conv", c.use_quant_conv);
  f.maybe("use_post_quant_conv", c.use_post_quant_conv);
  f.maybe("mid_block_add_attention", c.mid_block_add_attention);
  for (const auto& [key, known] : {std::pair("down_block_types", "DownEncoderBlock2D"),
                                   std::pair("up_block_types", "UpDecoderBlock2D")}) {
    std::vector<std::string> types(c.block_out_channels.size(), known);
    f.maybe(key, types);
    if (types.size() != c.block_out_channels.size())
      throw Error("{}: '{}' has {} entries, expected {} as 'block_out_channels'", where, key,
                  types.size(), c.block_out_channels.size());
    for (const std::string& type : types)
      if (type != known)
        throw Error("{}: '{}': block type '{}' is not supported; '{}' is", where, key, type, known);
  }
  f.only("shift_factor", nullptr);
  f.only("latents_mean", nullptr);
  f.only("latents_std", nullptr);
  f.ignore({"sample_size", "force_upcast"});  // sums are in f32 here
  f.finish();
  return c;
}

}  // namespace mlxcpp::sd

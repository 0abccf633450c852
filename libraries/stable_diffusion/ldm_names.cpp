#include "stable_diffusion/ldm_names.h"

#include <array>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace mlxcpp::sd {
namespace {

constexpr std::string_view kUNet = "model.diffusion_model.", kVae = "first_stage_model.";
constexpr std::string_view kClip = "cond_stage_model.transformer.",
                           kOpenClip = "cond_stage_model.model.",
                           kXlClip = "conditioner.embedders.0.transformer.",
                           kXlOpenClip = "conditioner.embedders.1.model.";

bool has_prefix(const Tensors& file, std::string_view prefix) {
  const auto it = file.lower_bound(std::string(prefix));
  return it != file.end() && it->first.starts_with(prefix);
}

// What follows `prefix`, which is taken off; false when it is not there.
bool take(std::string_view& name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return false;
  name.remove_prefix(prefix.size());
  return true;
}

// "12.rest" -> 12, "rest".
std::optional<int> take_number(std::string_view& name) {
  size_t n = 0;
  int value = 0;
  while (n < name.size() && n < 6 && name[n] >= '0' && name[n] <= '9')
    value = 10 * value + (name[n++] - '0');
  if (n == 0 || n >= name.size() || name[n] != '.') return std::nullopt;
  name.remove_prefix(n + 1);
  return value;
}

using Renames = std::vector<std::pair<std::string_view, std::string_view>>;

// The first prefix that fits is replaced.
std::string renamed(std::string_view name, const Renames& table) {
  for (const auto& [from, to] : table)
    if (take(name, from)) return std::string(to) + std::string(name);
  return std::string(name);
}

const Renames kResnet = {
    {"in_layers.0.", "norm1."},          {"in_layers.2.", "conv1."},
    {"emb_layers.1.", "time_emb_proj."}, {"out_layers.0.", "norm2."},
    {"out_layers.3.", "conv2."},         {"skip_connection.", "conv_shortcut."}};

// Places in a flat list of blocks: which block, and which layer of it (one more: the sampler).
struct Place {
  int block, layer;
};

std::string unet_name(std::string_view name, const std::vector<Place>& input,
                      const std::vector<Place>& output) {
  static const Renames kWhole = {{"time_embed.0.", "time_embedding.linear_1."},
                                 {"time_embed.2.", "time_embedding.linear_2."},
                                 {"time_embed.cond_proj.", "time_embedding.cond_proj."},
                                 {"label_emb.0.0.", "add_embedding.linear_1."},
                                 {"label_emb.0.2.", "add_embedding.linear_2."},
                                 {"input_blocks.0.0.", "conv_in."},
                                 {"out.0.", "conv_norm_out."},
                                 {"out.2.", "conv_out."}};
  std::string whole = renamed(name, kWhole);
  if (whole != name) return whole;
  std::string otherwise(name);
  if (take(name, "middle_block.")) {
    const auto n = take_number(name);
    if (!n || *n > 2) return otherwise;
    if (*n == 1) return fmt::format("mid_block.attentions.0.{}", name);
    return fmt::format("mid_block.resnets.{}.{}", *n / 2, renamed(name, kResnet));
  }
  const bool down = take(name, "input_blocks.");
  if (!down && !take(name, "output_blocks.")) return otherwise;
  const auto& places = down ? input : output;
  const auto at = take_number(name);
  const auto part = at ? take_number(name) : std::nullopt;
  if (!part || *at >= static_cast<int>(places.size())) return otherwise;
  const auto [block, layer] = places[*at];
  const std::string front = fmt::format("{}_blocks.{}.", down ? "down" : "up", block);
  if (take(name, "op.")) return fmt::format("{}downsamplers.0.conv.{}", front, name);
  if (name.starts_with("conv.")) return fmt::format("{}upsamplers.0.{}", front, name);
  if (*part == 0) return fmt::format("{}resnets.{}.{}", front, layer, renamed(name, kResnet));
  return fmt::format("{}attentions.{}.{}", front, layer, name);
}

std::string vae_name(std::string_view name, int blocks) {
  static const Renames kVaeResnet = {{"nin_shortcut.", "conv_shortcut."}};
  static const Renames kVaeAttention = {{"norm.", "group_norm."},
                                        {"q.", "to_q."},
                                        {"k.", "to_k."},
                                        {"v.", "to_v."},
                                        {"proj_out.", "to_out.0."}};
  std::string otherwise(name);
  const bool encoder = take(name, "encoder.");
  if (!encoder && !take(name, "decoder.")) return otherwise;
  const std::string front = encoder ? "encoder." : "decoder.";
  if (take(name, "norm_out.")) return front + "conv_norm_out." + std::string(name);
  if (take(name, "mid.attn_1."))
    return front + "mid_block.attentions.0." + renamed(name, kVaeAttention);
  for (const int i : {1, 2})
    if (take(name, fmt::format("mid.block_{}.", i)))
      return fmt::format("{}mid_block.resnets.{}.{}", front, i - 1, renamed(name, kVaeResnet));
  if (!take(name, encoder ? "down." : "up.")) return otherwise;
  const auto level = take_number(name);
  if (!level || *level >= blocks) return otherwise;
  // The decoder counts its blocks from the picture.
  const std::string block = fmt::format("{}{}_blocks.{}.", front, encoder ? "down" : "up",
                                        encoder ? *level : blocks - 1 - *level);
  if (take(name, "downsample.")) return block + "downsamplers.0." + std::string(name);
  if (take(name, "upsample.")) return block + "upsamplers.0." + std::string(name);
  if (!take(name, "block.")) return otherwise;
  const auto layer = take_number(name);
  if (!layer) return otherwise;
  return fmt::format("{}resnets.{}.{}", block, *layer, renamed(name, kVaeResnet));
}

// The rows [part * n, part * n + n) of three parts.
mx::array third(const mx::array& a, int part) {
  const int n = a.shape(0) / 3;
  mx::Shape from(a.ndim(), 0), to = a.shape();
  from[0] = part * n;
  to[0] = (part + 1) * n;
  return mx::slice(a, from, to);
}

Tensors open_clip(const Tensors& file, std::string_view prefix, int layers) {
  static const Renames kLayer = {{"ln_1.", "layer_norm1."},
                                 {"ln_2.", "layer_norm2."},
                                 {"attn.out_proj.", "self_attn.out_proj."},
                                 {"mlp.c_fc.", "mlp.fc1."},
                                 {"mlp.c_proj.", "mlp.fc2."}};
  constexpr std::array kParts = {"q_proj", "k_proj", "v_proj"};
  Tensors out;
  for (const auto& [key, value] : file) {
    std::string_view name = key;
    if (!take(name, prefix)) continue;
    if (name == "logit_scale" || name == "attn_mask") continue;
    if (name == "text_projection") {
      out.emplace("text_projection.weight", mx::transpose(value));
    } else if (name == "positional_embedding") {
      out.emplace("text_model.embeddings.position_embedding.weight", value);
    } else if (take(name, "token_embedding.")) {
      out.emplace("text_model.embeddings.token_embedding." + std::string(name), value);
    } else if (take(name, "ln_final.")) {
      out.emplace("text_model.final_layer_norm." + std::string(name), value);
    } else if (take(name, "transformer.resblocks.")) {
      const auto layer = take_number(name);
      if (layer && *layer >= layers) continue;  // SD 2 conditions on the last layer but one
      const std::string front = fmt::format("text_model.encoder.layers.{}.", layer.value_or(0));
      if (take(name, "attn.in_proj_")) {
        if (value.ndim() == 0 || value.shape(0) % 3 != 0)
          throw Error("'{}': expected queries, keys and values in one, found {} rows", key,
                      value.ndim() == 0 ? 0 : value.shape(0));
        for (int part = 0; part < 3; ++part)
          out.emplace(fmt::format("{}self_attn.{}.{}", front, kParts[part], name),
                      third(value, part));
      } else {
        out.emplace(front + renamed(name, kLayer), value);
      }
    } else {
      out.emplace(std::string(name), value);  // `load` names what does not belong
    }
  }
  return out;
}

Tensors clip(const Tensors& file, std::string_view prefix) {
  Tensors out;
  for (const auto& [key, value] : file)
    if (std::string_view name = key; take(name, prefix)) out.emplace(std::string(name), value);
  return out;
}

}  // namespace

ModelFamily ldm_family(const Tensors& file, const std::string& where) {
  if (has_prefix(file, kUNet)) {
    if (has_prefix(file, kXlClip) && has_prefix(file, kXlOpenClip)) return ModelFamily::sdxl;
    if (has_prefix(file, kOpenClip)) return ModelFamily::sd2;
    if (has_prefix(file, kClip)) return ModelFamily::sd1;
  }
  throw Error(
      "{}: not a single-file checkpoint of Stable Diffusion 1, 2 or XL: expected tensors under {} "
      "and {}, {} or {}",
      where, kUNet, kClip, kOpenClip, kXlClip);
}

Tensors ldm_unet(const Tensors& file, const UNetConfig& config) {
  const int blocks = static_cast<int>(config.block_out_channels.size());
  std::vector<Place> input{{0, 0}}, output;  // input block 0 is the first convolution
  for (int i = 0; i < blocks; ++i) {
    const int layers = config.layers_per_block[i];
    for (int j = 0; j < layers + (i + 1 < blocks); ++j) input.push_back({i, j});
    for (int j = 0; j <= config.layers_per_block[blocks - 1 - i]; ++j) output.push_back({i, j});
  }
  Tensors out;
  for (const auto& [key, value] : file)
    if (std::string_view name = key; take(name, kUNet))
      out.emplace(unet_name(name, input, output), value);
  return out;
}

Tensors ldm_autoencoder(const Tensors& file, const AutoencoderConfig& config) {
  Tensors out;
  for (const auto& [key, value] : file)
    if (std::string_view name = key; take(name, kVae))
      out.emplace(vae_name(name, static_cast<int>(config.block_out_channels.size())), value);
  return out;
}

Tensors ldm_text_encoder(const Tensors& file, ModelFamily family, int index,
                         const ClipTextConfig& config) {
  if (family == ModelFamily::sd1) return clip(file, kClip);
  if (family == ModelFamily::sdxl && index == 0) return clip(file, kXlClip);
  auto out = open_clip(file, family == ModelFamily::sd2 ? kOpenClip : kXlOpenClip,
                       config.num_hidden_layers);
  if (!config.with_projection) out.erase("text_projection.weight");
  return out;
}

}  // namespace mlxcpp::sd

#include "stable_diffusion/unet.h"

#include <cmath>

#include <fmt/ranges.h>

#include "kernels/image.h"
#include "stable_diffusion/transformer.h"

namespace mlxcpp::sd {

// What every block is handed.
struct BlockInputs {
  const mx::array& time;     // [N, time_embedding_dim], through the activation
  const mx::array& context;  // [N, S, cross_attention_dim]
};

// The UNet's outputs on the way down, which the way up takes from the end.
using Skips = std::vector<mx::array>;

namespace {

ResnetSizes resnet(const UNetConfig& c, int in, int out, float scale = 1) {
  return {.in_channels = in,
          .out_channels = out,
          .time_channels = c.time_embedding_dim,
          .groups = c.norm_num_groups,
          .eps = c.norm_eps,
          .output_scale = scale,
          .activation = c.act_fn};
}

TransformerSizes transformer(const UNetConfig& c, size_t block, int layers) {
  return {.channels = c.block_out_channels[block],
          .heads = c.num_heads[block],
          .layers = layers,
          .context_dim = c.cross_attention_dim[block],
          .groups = c.norm_num_groups};
}

}  // namespace

class UNetDownBlock : public nn::Module {
 public:
  UNetDownBlock(const UNetConfig& c, size_t i) {
    const int out = c.block_out_channels[i];
    for (int j = 0; j < c.layers_per_block[i]; ++j) {
      const int in = j > 0 ? out : c.block_out_channels[i > 0 ? i - 1 : 0];
      resnets.emplace_back(resnet(c, in, out));
      if (c.down_cross_attention[i])
        attentions.emplace_back(transformer(c, i, c.down_transformer_layers[i][j]));
    }
    if (i + 1 < c.block_out_channels.size()) downsamplers.emplace_back(out, c.downsample_padding);
  }

  mx::array operator()(mx::array x, const BlockInputs& in, Skips& skips) const {
    for (size_t j = 0; j < resnets.size(); ++j) {
      x = resnets.call(j, x, in.time);
      if (!attentions.empty()) x = attentions.call(j, x, in.context);
      skips.push_back(x);
    }
    if (!downsamplers.empty()) {
      x = downsamplers.call(0, x);
      skips.push_back(x);
    }
    return x;
  }

  nn::Children<ResnetBlock> resnets{this, "resnets"};
  nn::Children<Transformer2D> attentions{this, "attentions"};
  nn::Children<Downsample> downsamplers{this, "downsamplers"};
};

class UNetMidBlock : public nn::Module {
 public:
  explicit UNetMidBlock(const UNetConfig& c) {
    const size_t last = c.block_out_channels.size() - 1;
    const int channels = c.block_out_channels[last];
    for (int j = 0; j < 2; ++j)
      resnets.emplace_back(resnet(c, channels, channels, c.mid_block_scale_factor));
    attentions.emplace_back(transformer(c, last, c.mid_transformer_layers));
  }

  mx::array operator()(const mx::array& x, const BlockInputs& in) const {
    const auto h = attentions.call(0, resnets.call(0, x, in.time), in.context);
    return resnets.call(1, h, in.time);
  }

  nn::Children<ResnetBlock> resnets{this, "resnets"};
  nn::Children<Transformer2D> attentions{this, "attentions"};
};

// Block i of the way up works on the channels of block n-1-i of the way down.
class UNetUpBlock : public nn::Module {
 public:
  UNetUpBlock(const UNetConfig& c, size_t i) {
    const size_t last = c.block_out_channels.size() - 1, mirror = last - i;
    const int out = c.block_out_channels[mirror];
    const int below = c.block_out_channels[i == 0 ? last : mirror + 1];
    const int beside = c.block_out_channels[mirror > 0 ? mirror - 1 : 0];
    const int layers = c.layers_per_block[mirror] + 1;
    for (int j = 0; j < layers; ++j) {
      const int skip = j + 1 == layers ? beside : out;
      resnets.emplace_back(resnet(c, (j == 0 ? below : out) + skip, out));
      if (c.up_cross_attention[i])
        attentions.emplace_back(transformer(c, mirror, c.up_transformer_layers[i][j]));
    }
    if (i < last) upsamplers.emplace_back(out);
  }

  mx::array operator()(mx::array x, const BlockInputs& in, Skips& skips) const {
    for (size_t j = 0; j < resnets.size(); ++j) {
      x = kernels::join_channels({x, skips.back()});
      skips.pop_back();
      x = resnets.call(j, x, in.time);
      if (!attentions.empty()) x = attentions.call(j, x, in.context);
    }
    if (!upsamplers.empty()) {
      // To the size of what came down, which is not twice ours where that was odd.
      const auto size = skips.empty() ? std::optional<std::pair<int, int>>()
                                      : std::pair(skips.back().shape(1), skips.back().shape(2));
      x = upsamplers.call(0, x, size);
    }
    return x;
  }

  nn::Children<ResnetBlock> resnets{this, "resnets"};
  nn::Children<Transformer2D> attentions{this, "attentions"};
  nn::Children<Upsample> upsamplers{this, "upsamplers"};
};

mx::array sinusoidal_embedding(const mx::array& t, int dims, bool flip_sin_to_cos,
                               float freq_shift) {
  const int half = dims / 2;
  // 10000^(-i / (half - freq_shift)), rounded as torch rounds it: t magnifies what differs.
  std::vector<float> frequencies;
  for (int i = 0; i < half; ++i)
    frequencies.push_back(std::exp(static_cast<float>(-std::log(10000.0)) * static_cast<float>(i) /
                                   (static_cast<float>(half) - freq_shift)));
  const auto angles = mx::expand_dims(mx::astype(t, mx::float32), 1) *
                      mx::array(frequencies.data(), {half}, mx::float32);
  const auto sine = mx::sin(angles), cosine = mx::cos(angles);
  const auto out =
      mx::concatenate(flip_sin_to_cos ? std::vector{cosine, sine} : std::vector{sine, cosine}, 1);
  return dims % 2 == 0 ? out : mx::pad(out, {{0, 0}, {0, 1}});
}

TimestepEmbedding::TimestepEmbedding(int in_channels, int channels, const std::string& act,
                                     std::optional<int> condition)
    : act_(activation(act)),
      linear_1(this, "linear_1", in_channels, channels, true),
      cond_proj(this, "cond_proj", nn::absent),
      linear_2(this, "linear_2", channels, channels, true) {
  if (condition) cond_proj.emplace(*condition, in_channels);
}

mx::array TimestepEmbedding::operator()(const mx::array& x,
                                        const std::optional<mx::array>& condition) const {
  const auto h = cond_proj && condition ? x + cond_proj(*condition) : x;
  return linear_2(act_(linear_1(h)));
}

UNet::UNet(const UNetConfig& c)
    : config_(c),
      act_(activation(c.act_fn)),
      conv_in(this, "conv_in", c.in_channels, c.block_out_channels[0], c.conv_in_kernel,
              nn::ConvOptions<2>{.padding = c.conv_in_kernel / 2}),
      time_embedding(this, "time_embedding", c.block_out_channels[0], c.time_embedding_dim,
                     c.act_fn, c.time_cond_proj_dim),
      add_embedding(this, "add_embedding", nn::absent),
      down_blocks(this, "down_blocks"),
      mid_block(this, "mid_block", nn::absent),
      up_blocks(this, "up_blocks"),
      conv_norm_out(this, "conv_norm_out", c.norm_num_groups, c.block_out_channels[0], c.norm_eps,
                    true, true),
      conv_out(this, "conv_out", c.block_out_channels[0], c.out_channels, c.conv_out_kernel,
               nn::ConvOptions<2>{.padding = c.conv_out_kernel / 2}) {
  if (c.text_time)
    add_embedding.emplace(c.projection_class_embeddings_input_dim, c.time_embedding_dim, "silu");
  const size_t blocks = c.block_out_channels.size();
  for (size_t i = 0; i < blocks; ++i) down_blocks.emplace_back(c, i);
  if (c.mid_block) mid_block.emplace(c);
  for (size_t i = 0; i < blocks; ++i) up_blocks.emplace_back(c, i);
}

UNet::~UNet() = default;

mx::Dtype UNet::dtype() const { return conv_in->weight->dtype(); }

mx::array UNet::time_state(const mx::array& timestep, int batch, const Conditioning& c,
                           std::optional<float> guidance) const {
  const auto t = mx::broadcast_to(mx::astype(timestep, mx::float32), {batch});
  const auto embedded = sinusoidal_embedding(t, config_.block_out_channels[0],
                                             config_.flip_sin_to_cos, config_.freq_shift);
  std::optional<mx::array> condition;
  if (config_.time_cond_proj_dim) {
    // The pipelines' get_guidance_scale_embedding: of the scale less one, in thousandths.
    const auto w = mx::full({batch}, (guidance.value_or(1.0f) - 1.0f) * 1000.0f);
    condition =
        mx::astype(sinusoidal_embedding(w, *config_.time_cond_proj_dim, false, 1.0f), dtype());
  }
  auto time = time_embedding(mx::astype(embedded, dtype()), condition);
  if (!add_embedding) return act_(time);

  if (!c.pooled || !c.time_ids || c.time_ids->ndim() != 2 || c.time_ids->shape(1) != 6)
    throw Error("UNet: this model needs the pooled text state and six numbers of size and crop");
  auto sizes = sinusoidal_embedding(mx::flatten(*c.time_ids), config_.addition_time_embed_dim,
                                    config_.flip_sin_to_cos, config_.freq_shift);
  sizes = mx::reshape(sizes, {c.time_ids->shape(0), -1});
  const auto pooled = mx::astype(*c.pooled, mx::float32);
  const auto both = mx::concatenate({pooled, sizes}, 1);
  if (both.shape(1) != config_.projection_class_embeddings_input_dim)
    throw Error(
        "UNet: the pooled text state has {} numbers, expected {}: text encoder and UNet do not "
        "belong together",
        pooled.shape(1),
        config_.projection_class_embeddings_input_dim - 6 * config_.addition_time_embed_dim);
  time = time + add_embedding(mx::astype(mx::broadcast_to(both, {batch, both.shape(1)}), dtype()));
  return act_(time);
}

mx::array UNet::operator()(const mx::array& x, const mx::array& timestep, const Conditioning& c,
                           std::optional<float> guidance) const {
  if (x.ndim() != 4 || x.shape(3) != config_.in_channels)
    throw Error("UNet: expected latents [N, H, W, {}], found [{}]", config_.in_channels,
                fmt::join(x.shape(), ", "));
  if (c.states.ndim() != 3 || c.states.shape(2) != config_.cross_attention_dim[0])
    throw Error(
        "UNet: the text states are [{}], expected [N, S, {}]: text encoder and UNet do not belong "
        "together",
        fmt::join(c.states.shape(), ", "), config_.cross_attention_dim[0]);
  const int batch = x.shape(0);
  const auto time = time_state(timestep, batch, c, guidance);
  auto context = mx::astype(c.states, dtype());
  context = mx::broadcast_to(context, {batch, context.shape(1), context.shape(2)});
  const BlockInputs in{time, context};

  auto h = mx::astype(x, dtype());
  if (config_.center_input_sample) h = mx::array(2.0f, h.dtype()) * h - mx::array(1.0f, h.dtype());
  h = conv_in(h);
  Skips skips{h};
  for (size_t i = 0; i < down_blocks.size(); ++i) h = down_blocks.call(i, h, in, skips);
  if (mid_block) h = mid_block(h, in);
  for (size_t i = 0; i < up_blocks.size(); ++i) h = up_blocks.call(i, h, in, skips);
  h = config_.act_fn == "silu" ? conv_norm_out->with_silu(h) : act_(conv_norm_out(h));
  return mx::astype(conv_out(h), mx::float32);
}

}  // namespace mlxcpp::sd

#include "stable_diffusion/autoencoder.h"

#include <algorithm>

#include <fmt/ranges.h>

#include "stable_diffusion/transformer.h"

namespace mlxcpp::sd {
namespace {

constexpr float kEps = 1e-6f;

ResnetSizes resnet(const AutoencoderConfig& c, int in, int out) {
  return {.in_channels = in,
          .out_channels = out,
          .groups = c.norm_num_groups,
          .eps = kEps,
          .activation = c.act_fn};
}

// Attention of all pixels, one head; with its own norm and sum.
struct VaeAttention : Attention {
  VaeAttention(const AutoencoderConfig& c, int channels)
      : Attention(channels, 1, channels, true),
        group_norm(this, "group_norm", c.norm_num_groups, channels, kEps, true, true) {}

  mx::array operator()(const mx::array& x) const {
    const auto h = mx::reshape(group_norm(x), {x.shape(0), -1, x.shape(3)});
    return x + mx::reshape(Attention::operator()(h, h), x.shape());
  }

  nn::Child<nn::GroupNorm> group_norm;
};

struct VaeMidBlock : nn::Module {
  explicit VaeMidBlock(const AutoencoderConfig& c) {
    const int channels = c.block_out_channels.back();
    for (int j = 0; j < 2; ++j) resnets.emplace_back(resnet(c, channels, channels));
    if (c.mid_block_add_attention) attentions.emplace_back(c, channels);
  }

  mx::array operator()(const mx::array& x) const {
    auto h = resnets.call(0, x);
    if (!attentions.empty()) h = attentions.call(0, h);
    return resnets.call(1, h);
  }

  nn::Children<VaeAttention> attentions{this, "attentions"};
  nn::Children<ResnetBlock> resnets{this, "resnets"};
};

struct VaeDownBlock : nn::Module {
  VaeDownBlock(const AutoencoderConfig& c, int in, int out, bool last) {
    for (int j = 0; j < c.layers_per_block; ++j)
      resnets.emplace_back(resnet(c, j == 0 ? in : out, out));
    if (!last) downsamplers.emplace_back(out, 0);
  }

  mx::array operator()(mx::array x) const {
    for (size_t j = 0; j < resnets.size(); ++j) x = resnets.call(j, x);
    return downsamplers.empty() ? x : downsamplers.call(0, x);
  }

  nn::Children<ResnetBlock> resnets{this, "resnets"};
  nn::Children<Downsample> downsamplers{this, "downsamplers"};
};

struct VaeUpBlock : nn::Module {
  VaeUpBlock(const AutoencoderConfig& c, int in, int out, bool last) {
    for (int j = 0; j <= c.layers_per_block; ++j)
      resnets.emplace_back(resnet(c, j == 0 ? in : out, out));
    if (!last) upsamplers.emplace_back(out);
  }

  mx::array operator()(mx::array x) const {
    for (size_t j = 0; j < resnets.size(); ++j) x = resnets.call(j, x);
    return upsamplers.empty() ? x : upsamplers.call(0, x);
  }

  nn::Children<ResnetBlock> resnets{this, "resnets"};
  nn::Children<Upsample> upsamplers{this, "upsamplers"};
};

// Norm, activation and the last convolution of either half.
mx::array finish(const AutoencoderConfig& c, const nn::GroupNorm& norm, const nn::Conv2d& conv,
                 const mx::array& x) {
  return conv(c.act_fn == "silu" ? norm.with_silu(x) : activation(c.act_fn)(norm(x)));
}

}  // namespace

class VaeEncoder : public nn::Module {
 public:
  explicit VaeEncoder(const AutoencoderConfig& c)
      : config(c),
        conv_in(this, "conv_in", c.in_channels, c.block_out_channels[0], 3,
                nn::ConvOptions<2>{.padding = 1}),
        down_blocks(this, "down_blocks"),
        mid_block(this, "mid_block", c),
        conv_norm_out(this, "conv_norm_out", c.norm_num_groups, c.block_out_channels.back(), kEps,
                      true, true),
        conv_out(this, "conv_out", c.block_out_channels.back(), 2 * c.latent_channels, 3,
                 nn::ConvOptions<2>{.padding = 1}) {
    const auto& channels = c.block_out_channels;
    for (size_t i = 0; i < channels.size(); ++i)
      down_blocks.emplace_back(c, channels[i > 0 ? i - 1 : 0], channels[i],
                               i + 1 == channels.size());
  }

  mx::array operator()(const mx::array& x) const {
    auto h = conv_in(x);
    for (size_t i = 0; i < down_blocks.size(); ++i) h = down_blocks.call(i, h);
    return finish(config, *conv_norm_out, *conv_out, mid_block(h));
  }

 private:
  AutoencoderConfig config;

 public:
  nn::Child<nn::Conv2d> conv_in;
  nn::Children<VaeDownBlock> down_blocks;
  nn::Child<VaeMidBlock> mid_block;
  nn::Child<nn::GroupNorm> conv_norm_out;
  nn::Child<nn::Conv2d> conv_out;
};

class VaeDecoder : public nn::Module {
 public:
  explicit VaeDecoder(const AutoencoderConfig& c)
      : config(c),
        conv_in(this, "conv_in", c.latent_channels, c.block_out_channels.back(), 3,
                nn::ConvOptions<2>{.padding = 1}),
        up_blocks(this, "up_blocks"),
        mid_block(this, "mid_block", c),
        conv_norm_out(this, "conv_norm_out", c.norm_num_groups, c.block_out_channels[0], kEps, true,
                      true),
        conv_out(this, "conv_out", c.block_out_channels[0], c.out_channels, 3,
                 nn::ConvOptions<2>{.padding = 1}) {
    const std::vector<int> channels(c.block_out_channels.rbegin(), c.block_out_channels.rend());
    for (size_t i = 0; i < channels.size(); ++i)
      up_blocks.emplace_back(c, channels[i > 0 ? i - 1 : 0], channels[i], i + 1 == channels.size());
  }

  mx::array operator()(const mx::array& z) const {
    auto h = mid_block(conv_in(z));
    for (size_t i = 0; i < up_blocks.size(); ++i) h = up_blocks.call(i, h);
    return finish(config, *conv_norm_out, *conv_out, h);
  }

 private:
  AutoencoderConfig config;

 public:
  nn::Child<nn::Conv2d> conv_in;
  nn::Children<VaeUpBlock> up_blocks;
  nn::Child<VaeMidBlock> mid_block;
  nn::Child<nn::GroupNorm> conv_norm_out;
  nn::Child<nn::Conv2d> conv_out;
};

Autoencoder::Autoencoder(const AutoencoderConfig& c)
    : config_(c),
      encoder(this, "encoder", c),
      decoder(this, "decoder", c),
      quant_conv(this, "quant_conv", nn::absent),
      post_quant_conv(this, "post_quant_conv", nn::absent) {
  if (c.use_quant_conv) quant_conv.emplace(2 * c.latent_channels, 2 * c.latent_channels, true);
  if (c.use_post_quant_conv) post_quant_conv.emplace(c.latent_channels, c.latent_channels, true);
}

Autoencoder::~Autoencoder() = default;

mx::Dtype Autoencoder::dtype() const { return decoder->conv_in->weight->dtype(); }

Autoencoder::Posterior Autoencoder::encode(const mx::array& x) const {
  if (x.ndim() != 4 || x.shape(3) != config_.in_channels || x.shape(1) % config_.scale() != 0 ||
      x.shape(2) % config_.scale() != 0 || x.size() == 0)
    throw Error(
        "autoencoder: expected pictures [N, H, W, {}] with H and W multiples of {}, found "
        "[{}]",
        config_.in_channels, config_.scale(), fmt::join(x.shape(), ", "));
  auto h = encoder(mx::astype(x, dtype()));
  if (quant_conv) h = quant_conv(h);
  const auto parts = mx::split(mx::astype(h, mx::float32), 2, 3);
  return {parts[0], mx::clip(parts[1], mx::array(-30.0f), mx::array(20.0f))};
}

mx::array Autoencoder::encode_scaled(const mx::array& x) const {
  return encode(x).mean * mx::array(config_.scaling_factor);
}

mx::array Autoencoder::decode(const mx::array& z) const {
  const auto h = post_quant_conv ? post_quant_conv(z) : z;
  return mx::astype(decoder(h), mx::float32);
}

mx::array Autoencoder::decode_scaled(const mx::array& z, const std::optional<Tiling>& tiling,
                                     const std::stop_token& stop) const {
  if (z.ndim() != 4 || z.shape(3) != config_.latent_channels || z.size() == 0)
    throw Error(
        "autoencoder: expected latents [N, H, W, {}], found [{}]: UNet and autoencoder do "
        "not belong together",
        config_.latent_channels, fmt::join(z.shape(), ", "));
  const auto unscaled =
      mx::astype(mx::astype(z, mx::float32) * mx::array(1.0f / config_.scaling_factor), dtype());
  if (tiling && (tiling->edge < 2 || !(tiling->overlap >= 0 && tiling->overlap < 1)))
    throw Error(
        "autoencoder: tiles of {} latents with {} overlap; expected at least 2, and an "
        "overlap from 0 to below 1",
        tiling->edge, tiling->overlap);
  if (tiling && (z.shape(1) > tiling->edge || z.shape(2) > tiling->edge))
    return decode_tiled(unscaled, *tiling, stop);
  return decode(unscaled);
}

namespace {

// b with its first `extent` rows (axis 1) or columns (2) mixed with the last ones of a.
mx::array blend(const mx::array& a, const mx::array& b, int axis, int extent) {
  extent = std::min({extent, a.shape(axis), b.shape(axis)});
  if (extent <= 0) return b;
  const auto cut = [&](const mx::array& x, int begin, int end) {
    mx::Shape from(4, 0), to = x.shape();
    from[axis] = begin;
    to[axis] = end;
    return mx::slice(x, from, to);
  };
  mx::Shape shape(4, 1);
  shape[axis] = extent;
  const auto share = mx::reshape(
      mx::arange(extent, mx::float32) * mx::array(1.0f / static_cast<float>(extent)), shape);
  const auto mixed = cut(a, a.shape(axis) - extent, a.shape(axis)) * (mx::array(1.0f) - share) +
                     cut(b, 0, extent) * share;
  return mx::concatenate({mixed, cut(b, extent, b.shape(axis))}, axis);
}

}  // namespace

// As AutoencoderKL.tiled_decode: tiles at steps of edge * (1 - overlap), each blended with its
// upper and left neighbours and cut to its own part.
mx::array Autoencoder::decode_tiled(const mx::array& z, const Tiling& tiling,
                                    const std::stop_token& stop) const {
  const int height = z.shape(1), width = z.shape(2), edge = tiling.edge, scale = config_.scale();
  const int step = std::max(1, static_cast<int>(static_cast<float>(edge) * (1 - tiling.overlap)));
  const int limit = step * scale, extent = edge * scale - limit;
  std::vector<mx::array> rows, above, row;
  for (int y = 0; y < height; y += step) {
    row.clear();
    for (int x = 0; x < width; x += step) {
      auto tile = decode(mx::slice(
          z, {0, y, x, 0},
          {z.shape(0), std::min(y + edge, height), std::min(x + edge, width), z.shape(3)}));
      tile.eval();  // one tile's activations at a time
      if (stop.stop_requested()) throw Error("interrupted");
      row.push_back(tile);
    }
    std::vector<mx::array> parts;
    for (size_t j = 0; j < row.size(); ++j) {
      if (!above.empty()) row[j] = blend(above[j], row[j], 1, extent);
      if (j > 0) row[j] = blend(row[j - 1], row[j], 2, extent);
      const mx::array& t = row[j];
      parts.push_back(mx::slice(
          t, {0, 0, 0, 0},
          {t.shape(0), std::min(limit, t.shape(1)), std::min(limit, t.shape(2)), t.shape(3)}));
    }
    rows.push_back(mx::concatenate(parts, 2));
    rows.back().eval();
    above = row;
  }
  return mx::slice(mx::concatenate(rows, 1), {0, 0, 0, 0},
                   {z.shape(0), height * scale, width * scale, config_.out_channels});
}

}  // namespace mlxcpp::sd

#include "stable_diffusion/blocks.h"

#include "kernels/image.h"

namespace mlxcpp::sd {
namespace {

bool is_silu(const std::string& name) { return name == "silu" || name == "swish"; }

}  // namespace

nn::ActivationFn activation(const std::string& name) {
  return is_silu(name) ? nn::silu : nn::activation_from_name(name);
}

ResnetBlock::ResnetBlock(const ResnetSizes& s)
    : output_scale_(s.output_scale),
      silu_(is_silu(s.activation)),
      act_(activation(s.activation)),
      norm1(this, "norm1", s.groups, s.in_channels, s.eps, true, true),
      conv1(this, "conv1", s.in_channels, s.out_channels, 3, nn::ConvOptions<2>{.padding = 1}),
      time_emb_proj(this, "time_emb_proj", nn::absent),
      norm2(this, "norm2", s.groups, s.out_channels, s.eps, true, true),
      conv2(this, "conv2", s.out_channels, s.out_channels, 3, nn::ConvOptions<2>{.padding = 1}),
      conv_shortcut(this, "conv_shortcut", nn::absent) {
  if (s.time_channels > 0) time_emb_proj.emplace(s.time_channels, s.out_channels, true);
  if (s.in_channels != s.out_channels) conv_shortcut.emplace(s.in_channels, s.out_channels, true);
}

mx::array ResnetBlock::normed(const nn::GroupNorm& norm, const mx::array& x) const {
  return silu_ ? norm.with_silu(x) : act_(norm(x));
}

mx::array ResnetBlock::operator()(const mx::array& x, const std::optional<mx::array>& time) const {
  std::optional<mx::array> shift;  // [N, out_channels], of every pixel
  if (time_emb_proj && time) shift = time_emb_proj(*time);
  const auto h = conv1->with(normed(*norm1, x), {.shift = shift});
  const auto skip = conv_shortcut ? conv_shortcut(x) : x;
  const auto y = conv2->with(normed(*norm2, h), {.residual = skip});
  return output_scale_ == 1 ? y : y * mx::array(1 / output_scale_, y.dtype());
}

Downsample::Downsample(int channels, int padding)
    : padding_(padding),
      conv(this, "conv", channels, channels, 3,
           nn::ConvOptions<2>{.stride = 2, .padding = padding}) {}

mx::array Downsample::operator()(const mx::array& x) const {
  if (padding_ != 0) return conv(x);
  return conv(mx::pad(x, {{0, 0}, {0, 1}, {0, 1}, {0, 0}}));
}

Upsample::Upsample(int channels)
    : conv(this, "conv", channels, channels, 3, nn::ConvOptions<2>{.padding = 1}) {}

mx::array Upsample::operator()(const mx::array& x, std::optional<std::pair<int, int>> size) const {
  const auto [rows, columns] = size.value_or(std::pair(2 * x.shape(1), 2 * x.shape(2)));
  return conv(kernels::resize_nearest(x, rows, columns));
}

}  // namespace mlxcpp::sd

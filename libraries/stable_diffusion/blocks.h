// What the UNet and the autoencoder are built of, channels last: x [N, H, W, C]. Reference:
// diffusers, models/resnet.py, downsampling.py, upsampling.py.
#pragma once

#include <optional>
#include <utility>

#include "nn/activations.h"
#include "nn/conv.h"
#include "nn/linear.h"
#include "nn/norm.h"

namespace mlxcpp::sd {

namespace mx = mlx::core;

// A module seen by observers (its call returns one array) in the place of a list.
template <class T>
using Blocks = nn::Children<T>;

struct ResnetSizes {
  int in_channels, out_channels;
  int time_channels = 0;  // width of the time embedding; 0: none
  int groups;
  float eps;
  float output_scale = 1;  // what the sum is divided by
  std::string activation = "silu";
};

// ResnetBlock2D: norm, activation, convolution; plus the time embedding; the same again; plus x.
class ResnetBlock final : public nn::Module {
 public:
  explicit ResnetBlock(const ResnetSizes& sizes);
  // time: [N, time_channels], already through the activation
  mx::array operator()(const mx::array& x, const std::optional<mx::array>& time = {}) const;

 private:
  mx::array normed(const nn::GroupNorm& norm, const mx::array& x) const;

  float output_scale_;
  bool silu_;
  nn::ActivationFn act_;

 public:
  nn::Child<nn::GroupNorm> norm1;
  nn::Child<nn::Conv2d> conv1;
  nn::Child<nn::Linear> time_emb_proj;
  nn::Child<nn::GroupNorm> norm2;
  nn::Child<nn::Conv2d> conv2;
  nn::Child<nn::Linear> conv_shortcut;  // 1x1, where the channels change
};

// Halves height and width. padding 0 is the autoencoder's: one row and column of zeros at the end.
class Downsample final : public nn::Module {
 public:
  Downsample(int channels, int padding);
  mx::array operator()(const mx::array& x) const;

 private:
  int padding_;

 public:
  nn::Child<nn::Conv2d> conv;
};

// Doubles height and width by the nearest pixel, or to a given size (rows, columns).
class Upsample final : public nn::Module {
 public:
  explicit Upsample(int channels);
  mx::array operator()(const mx::array& x, std::optional<std::pair<int, int>> size = {}) const;

  nn::Child<nn::Conv2d> conv;
};

// `activation` of diffusers' configs: its "swish" is "silu".
nn::ActivationFn activation(const std::string& name);

}  // namespace mlxcpp::sd

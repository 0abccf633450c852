// Convolutions, channels last as everywhere in MLX: x [N, L, C], [N, H, W, C] or [N, D, H, W, C].
// (What the field calls convolution: cross-correlation.)
#pragma once

#include <string>

#include "kernels/conv.h"
#include "nn/extents.h"
#include "nn/module.h"

namespace mlxcpp::nn {

template <int N>
struct ConvOptions {
  Extents<N> stride = 1, padding = 0, dilation = 1;
  int groups = 1;  // in_channels for a depthwise convolution
  bool bias = true;
};

// weight [out_channels, *kernel_size, in_channels / groups].
template <int N>
class Conv : public Layer {
 public:
  Conv(int in_channels, int out_channels, Extents<N> kernel_size, ConvOptions<N> options = {});

  mx::array operator()(const mx::array& x) const override;
  // Two axes only: with a shift of each picture's channels or another array added, in one pass.
  mx::array with(const mx::array& x, kernels::ConvAddends addends) const
    requires(N == 2);
  std::string type_name() const override;
  std::string settings() const override;

 private:
  int in_channels_;
  ConvOptions<N> options_;

 public:
  Param weight, bias;
};

template <int N>
struct ConvTransposeOptions {
  Extents<N> stride = 1, padding = 0, dilation = 1, output_padding = 0;
  int groups = 1;
  bool bias = true;
};

// The gradient of a convolution with respect to its input, used as a layer that enlarges:
// (in - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1 along each axis.
// weight [out_channels, *kernel_size, in_channels / groups].
template <int N>
class ConvTranspose : public Layer {
 public:
  ConvTranspose(int in_channels, int out_channels, Extents<N> kernel_size,
                ConvTransposeOptions<N> options = {});

  mx::array operator()(const mx::array& x) const override;
  std::string type_name() const override;
  std::string settings() const override;

 private:
  int in_channels_;
  ConvTransposeOptions<N> options_;

 public:
  Param weight, bias;
};

using Conv1d = Conv<1>;
using Conv2d = Conv<2>;
using Conv3d = Conv<3>;
using ConvTranspose1d = ConvTranspose<1>;
using ConvTranspose2d = ConvTranspose<2>;
using ConvTranspose3d = ConvTranspose<3>;

extern template class Conv<1>;
extern template class Conv<2>;
extern template class Conv<3>;
extern template class ConvTranspose<1>;
extern template class ConvTranspose<2>;
extern template class ConvTranspose<3>;

}  // namespace mlxcpp::nn

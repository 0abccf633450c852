// The denoiser: UNet2DConditionModel of diffusers (models/unets/unet_2d_condition.py), channels
// last.
#pragma once

#include <optional>

#include "nn/conv.h"
#include "nn/linear.h"
#include "nn/norm.h"
#include "stable_diffusion/blocks.h"
#include "stable_diffusion/config.h"

namespace mlxcpp::sd {

namespace mx = mlx::core;

// What the picture is to show, as the UNet takes it.
struct Conditioning {
  mx::array states;                   // [B, S, cross_attention_dim]
  std::optional<mx::array> pooled;    // [B, P] of the second text encoder (SDXL)
  std::optional<mx::array> time_ids;  // f32 [B, 6]: original height, width, crop top, left, target
                                      // height, width
};

// [T] -> [T, dims]: cosines and sines of t at `dims` / 2 wavelengths up to 10,000, in f32.
mx::array sinusoidal_embedding(const mx::array& t, int dims, bool flip_sin_to_cos,
                               float freq_shift);

// linear_1, SiLU, linear_2; cond_proj of another input is added in front.
class TimestepEmbedding final : public nn::Module {
 public:
  TimestepEmbedding(int in_channels, int channels, const std::string& act,
                    std::optional<int> condition = {});
  mx::array operator()(const mx::array& x, const std::optional<mx::array>& condition = {}) const;

 private:
  nn::ActivationFn act_;

 public:
  nn::Child<nn::Linear> linear_1, cond_proj, linear_2;
};

class UNetDownBlock;
class UNetMidBlock;
class UNetUpBlock;

class UNet final : public nn::Module {
 public:
  explicit UNet(const UNetConfig& config);
  ~UNet() override;

  // x [N, H, W, in_channels], timestep [N] or a scalar (any real number) -> [N, H, W,
  // out_channels]. guidance: the scale, for models that take it as an input (time_cond_proj_dim).
  // Computed in the dtype of the weights; the result is f32.
  mx::array operator()(const mx::array& x, const mx::array& timestep, const Conditioning& c,
                       std::optional<float> guidance = {}) const;

  const UNetConfig& config() const { return config_; }
  mx::Dtype dtype() const;

 private:
  UNetConfig config_;
  nn::ActivationFn act_;

  mx::array time_state(const mx::array& timestep, int batch, const Conditioning& c,
                       std::optional<float> guidance) const;

 public:
  nn::Child<nn::Conv2d> conv_in;
  nn::Child<TimestepEmbedding> time_embedding, add_embedding;
  nn::Children<UNetDownBlock> down_blocks;
  nn::Child<UNetMidBlock> mid_block;
  nn::Children<UNetUpBlock> up_blocks;
  nn::Child<nn::GroupNorm> conv_norm_out;
  nn::Child<nn::Conv2d> conv_out;
};

}  // namespace mlxcpp::sd

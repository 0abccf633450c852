#pragma once

#include <optional>
#include <utility>

#include "nn/module.h"

namespace mlxcpp::nn {

// y = x / sqrt(mean(x^2) + eps) * weight over the last axis (Zhang and Sennrich, arXiv 1910.07467).
// plus_one is Gemma's form, whose checkpoints store the gain less one: 1 + weight is made once in
// float32 and the product rounded once to x's dtype, as the published models compute it.
class RMSNorm final : public Layer {
 public:
  explicit RMSNorm(int dims, float eps = 1e-5f, bool plus_one = false);

  mx::array operator()(const mx::array& x) const override;
  std::string settings() const override;

  mx::array gain() const;  // what it multiplies by: weight, or 1 + weight in float32
  float eps() const { return eps_; }

 private:
  float eps_;
  bool plus_one_;
  mutable std::optional<std::pair<mx::array, mx::array>> gain_;  // of which weight, and the sum

 public:
  Param weight;  // [dims]
};

// y = (x - mean) / sqrt(var + eps) * weight + bias over the last axis (Ba et al., arXiv
// 1607.06450).
class LayerNorm final : public Layer {
 public:
  // affine: has a weight; with_bias: and a bias.
  explicit LayerNorm(int dims, float eps = 1e-5f, bool affine = true, bool with_bias = true);

  mx::array operator()(const mx::array& x) const override;
  std::string settings() const override;

  float eps() const { return eps_; }

 private:
  int dims_;
  float eps_;

 public:
  Param weight, bias;  // [dims]
};

// x [N, ..., C]: as LayerNorm, over the positions and a group of channels of each row (Wu and He,
// arXiv 1803.08494). pytorch_compatible: a group is C/groups neighbouring channels, as in published
// checkpoints; otherwise MLX's own order, every groups-th channel.
class GroupNorm final : public Layer {
 public:
  GroupNorm(int num_groups, int dims, float eps = 1e-5f, bool affine = true,
            bool pytorch_compatible = false);

  mx::array operator()(const mx::array& x) const override;
  // x sigmoid(x) of the same, in one pass where a kernel has it.
  mx::array with_silu(const mx::array& x) const;
  std::string settings() const override;

 private:
  int num_groups_, dims_;
  float eps_;
  bool pytorch_compatible_;

 public:
  Param weight, bias;  // [dims]
};

// x [N, ..., C]: over the positions of each row and channel (arXiv 1607.08022).
class InstanceNorm final : public Layer {
 public:
  explicit InstanceNorm(int dims, float eps = 1e-5f, bool affine = false);

  mx::array operator()(const mx::array& x) const override;
  std::string settings() const override;

 private:
  int dims_;
  float eps_;

 public:
  Param weight, bias;  // [dims]
};

// x [N, C], [N, L, C] or [N, H, W, C]: over everything but channels (arXiv 1502.03167). In training
// by the batch's statistics, of which it keeps a running mean; afterwards by that mean.
class BatchNorm final : public Layer {
 public:
  explicit BatchNorm(int dims, float eps = 1e-5f, float momentum = 0.1f, bool affine = true,
                     bool track_running_stats = true);

  mx::array operator()(const mx::array& x) const override;
  std::string settings() const override;

 private:
  int dims_;
  float eps_, momentum_;

 public:
  Param weight, bias;                       // [dims]
  mutable Param running_mean, running_var;  // [dims], fixed
};

}  // namespace mlxcpp::nn

#include "nn/norm.h"

#include <numeric>

#include <fmt/ranges.h>

#include "kernels/activations.h"
#include "kernels/group_norm.h"
#include "kernels/norm.h"

namespace mlxcpp::nn {
namespace {

void check(const char* layer, int dims, float eps) {
  if (dims <= 0) throw Error("{}: dims must be positive, found {}", layer, dims);
  if (!(eps >= 0.0f)) throw Error("{}: eps must not be negative, found {}", layer, eps);
}

// Channels last, and at least one axis of positions between them and the batch.
void check_input(const char* layer, const mx::array& x, int dims, size_t min_axes) {
  if (x.ndim() < min_axes || x.shape(-1) != dims)
    throw Error("{}: expected an array of at least {} axes, the last one {}; found [{}]", layer,
                min_axes, dims, fmt::join(x.shape(), ", "));
}

mx::array affine(const mx::array& x, const Param& weight, const Param& bias) {
  auto y = weight ? x * *weight : x;
  return bias ? y + *bias : y;
}

}  // namespace

RMSNorm::RMSNorm(int dims, float eps, bool plus_one)
    : eps_(eps),
      plus_one_(plus_one),
      weight(this, "weight", mx::full({dims}, plus_one ? 0.0f : 1.0f)) {
  check("RMSNorm", dims, eps);
}

mx::array RMSNorm::gain() const {
  if (!plus_one_) return *weight;
  const auto sum = [&] { return mx::astype(*weight, mx::float32) + mx::array(1.0f); };
  if (weight->is_tracer()) return sum();  // inside grad or compile: of this trace only
  // Holding the array that the sum was made of keeps its id from being given to another.
  if (!gain_ || gain_->first.id() != weight->id()) gain_.emplace(*weight, sum());
  return gain_->second;
}

mx::array RMSNorm::operator()(const mx::array& x) const {
  if (!plus_one_) return kernels::rms_norm(x, *weight, eps_);
  return mx::astype(kernels::rms_norm(x, gain(), eps_), x.dtype());
}

std::string RMSNorm::settings() const {
  return fmt::format("{}, eps={}{}", weight->shape(0), eps_, plus_one_ ? ", plus_one=true" : "");
}

LayerNorm::LayerNorm(int dims, float eps, bool affine, bool with_bias)
    : dims_(dims), eps_(eps), weight(this, "weight", absent), bias(this, "bias", absent) {
  check("LayerNorm", dims, eps);
  if (affine) weight.set(mx::ones({dims}));
  if (affine && with_bias) bias.set(mx::zeros({dims}));
}

mx::array LayerNorm::operator()(const mx::array& x) const {
  return kernels::layer_norm(x, weight.optional(), bias.optional(), eps_);
}

std::string LayerNorm::settings() const {
  return fmt::format("{}, eps={}, affine={}", dims_, eps_, static_cast<bool>(weight));
}

GroupNorm::GroupNorm(int num_groups, int dims, float eps, bool affine, bool pytorch_compatible)
    : num_groups_(num_groups),
      dims_(dims),
      eps_(eps),
      pytorch_compatible_(pytorch_compatible),
      weight(this, "weight", absent),
      bias(this, "bias", absent) {
  check("GroupNorm", dims, eps);
  if (num_groups <= 0 || dims % num_groups != 0)
    throw Error("GroupNorm: {} channels do not divide into {} groups", dims, num_groups);
  if (affine) {
    weight.set(mx::ones({dims}));
    bias.set(mx::zeros({dims}));
  }
}

mx::array GroupNorm::operator()(const mx::array& x) const {
  check_input("GroupNorm", x, dims_, 2);
  if (pytorch_compatible_ && weight)
    return kernels::group_norm(x, num_groups_, *weight, *bias, eps_);
  const int N = x.shape(0), G = num_groups_, per_group = dims_ / G;
  const auto normalised = [&] {
    if (pytorch_compatible_) {
      // [N, P, G, C/G] -> [N, G, P * C/G]: what is normalised together lies together.
      auto y = mx::transpose(mx::reshape(x, {N, -1, G, per_group}), {0, 2, 1, 3});
      y = kernels::layer_norm(mx::reshape(y, {N, G, -1}), {}, {}, eps_);
      return mx::transpose(mx::reshape(y, {N, G, -1, per_group}), {0, 2, 1, 3});
    }
    auto y = mx::transpose(mx::reshape(x, {N, -1, G}), {0, 2, 1});
    return mx::transpose(kernels::layer_norm(y, {}, {}, eps_), {0, 2, 1});
  };
  return affine(mx::reshape(normalised(), x.shape()), weight, bias);
}

mx::array GroupNorm::with_silu(const mx::array& x) const {
  check_input("GroupNorm", x, dims_, 2);
  if (pytorch_compatible_ && weight)
    return kernels::group_norm(x, num_groups_, *weight, *bias, eps_, true);
  return kernels::silu((*this)(x));
}

std::string GroupNorm::settings() const {
  return fmt::format("{}, {}, eps={}, affine={}, pytorch_compatible={}", num_groups_, dims_, eps_,
                     static_cast<bool>(weight), pytorch_compatible_);
}

InstanceNorm::InstanceNorm(int dims, float eps, bool affine)
    : dims_(dims), eps_(eps), weight(this, "weight", absent), bias(this, "bias", absent) {
  check("InstanceNorm", dims, eps);
  if (affine) {
    weight.set(mx::ones({dims}));
    bias.set(mx::zeros({dims}));
  }
}

mx::array InstanceNorm::operator()(const mx::array& x) const {
  check_input("InstanceNorm", x, dims_, 3);
  auto y = mx::transpose(mx::reshape(x, {x.shape(0), -1, dims_}), {0, 2, 1});  // [N, C, P]
  y = mx::transpose(kernels::layer_norm(y, {}, {}, eps_), {0, 2, 1});
  return affine(mx::reshape(y, x.shape()), weight, bias);
}

std::string InstanceNorm::settings() const {
  return fmt::format("{}, eps={}, affine={}", dims_, eps_, static_cast<bool>(weight));
}

BatchNorm::BatchNorm(int dims, float eps, float momentum, bool affine, bool track_running_stats)
    : dims_(dims),
      eps_(eps),
      momentum_(momentum),
      weight(this, "weight", absent),
      bias(this, "bias", absent),
      running_mean(this, "running_mean", absent, Param::Kind::fixed),
      running_var(this, "running_var", absent, Param::Kind::fixed) {
  check("BatchNorm", dims, eps);
  if (affine) {
    weight.set(mx::ones({dims}));
    bias.set(mx::zeros({dims}));
  }
  if (track_running_stats) {
    running_mean.set(mx::zeros({dims}));
    running_var.set(mx::ones({dims}));
  }
}

mx::array BatchNorm::operator()(const mx::array& x) const {
  check_input("BatchNorm", x, dims_, 2);
  const bool tracks = static_cast<bool>(running_mean);
  if (!training() && tracks)
    return affine((x - *running_mean) * mx::rsqrt(*running_var + mx::array(eps_)), weight, bias);
  std::vector<int> axes(x.ndim() - 1);
  std::iota(axes.begin(), axes.end(), 0);
  const auto mean = mx::mean(x, axes), var = mx::var(x, axes);
  if (training() && x.size() <= static_cast<size_t>(dims_))
    throw Error("BatchNorm: training needs more than one value a channel, found [{}]",
                fmt::join(x.shape(), ", "));
  if (training() && tracks) {
    const auto keep = mx::array(1 - momentum_), take = mx::array(momentum_);
    running_mean.set(keep * *running_mean + take * mx::stop_gradient(mean));
    running_var.set(keep * *running_var + take * mx::stop_gradient(mx::var(x, axes, false, 1)));
  }
  return affine((x - mean) * mx::rsqrt(var + mx::array(eps_)), weight, bias);
}

std::string BatchNorm::settings() const {
  return fmt::format("{}, eps={}, momentum={}, affine={}, track_running_stats={}", dims_, eps_,
                     momentum_, static_cast<bool>(weight), static_cast<bool>(running_mean));
}

}  // namespace mlxcpp::nn

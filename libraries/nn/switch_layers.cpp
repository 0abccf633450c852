#include "nn/switch_layers.h"

#include "kernels/activations.h"
#include "kernels/gather_rows.h"
#include "nn/init.h"

namespace mlxcpp::nn {

using kernels::QuantizedMatrix;
using kernels::QuantType;

mx::array expert_linear(const mx::array& x, const mx::array& weight, const mx::array& experts,
                        bool sorted) {
  return mx::squeeze(mx::gather_mm(kernels::gather_rows(x), mx::swapaxes(weight, -1, -2),
                                   std::nullopt, experts, sorted),
                     1);
}

SwitchLinear::SwitchLinear(int input_dims, int output_dims, int num_experts, bool with_bias)
    : input_dims_(input_dims),
      output_dims_(output_dims),
      num_experts_(num_experts),
      weight(this, "weight",
             detail::uniform_init(input_dims, {num_experts, output_dims, input_dims})),
      bias(this, "bias", absent) {
  if (with_bias) bias.set(mx::zeros({num_experts, output_dims}));
}

SwitchLinear::SwitchLinear(int input_dims, int output_dims, int num_experts,
                           std::optional<mx::array> stored_weight)
    : input_dims_(input_dims),
      output_dims_(output_dims),
      num_experts_(num_experts),
      weight(this, "weight", std::move(stored_weight), Param::Kind::fixed),
      bias(this, "bias", absent) {}

mx::array SwitchLinear::operator()(const mx::array& x, const mx::array& experts,
                                   bool sorted) const {
  return with_bias(expert_linear(x, *weight, experts, sorted), experts);
}

mx::array SwitchLinear::with_bias(const mx::array& y, const mx::array& experts) const {
  return bias ? y + mx::take(*bias, experts, 0) : y;
}

std::string SwitchLinear::settings() const {
  return fmt::format("input_dims={}, output_dims={}, num_experts={}, bias={}", input_dims_,
                     output_dims_, num_experts_, static_cast<bool>(bias));
}

std::unique_ptr<Module> SwitchLinear::quantized_twin(const QuantType& type) const {
  return std::make_unique<QuantizedSwitchLinear>(input_dims_, output_dims_, num_experts_, type,
                                                 static_cast<bool>(bias));
}

std::unique_ptr<Module> SwitchLinear::quantized(const QuantType& type) const {
  return std::make_unique<QuantizedSwitchLinear>(kernels::quantize(*weight, type), bias.optional());
}

QuantizedSwitchLinear::QuantizedSwitchLinear(int input_dims, int output_dims, int num_experts,
                                             const QuantType& type, bool with_bias)
    : QuantizedSwitchLinear(
          detail::empty_matrix(type, {num_experts, output_dims, input_dims}),
          with_bias ? std::optional(mx::zeros({num_experts, output_dims})) : std::nullopt) {}

QuantizedSwitchLinear::QuantizedSwitchLinear(QuantizedMatrix matrix,
                                             std::optional<mx::array> bias_values)
    : SwitchLinear(matrix.cols(), matrix.rows(), matrix.weight.shape(0), matrix.weight),
      type_(matrix.type),
      scales(this, "scales", absent, Param::Kind::fixed),
      biases(this, "biases", absent, Param::Kind::fixed) {
  if (bias_values) bias.set(std::move(*bias_values));
  if (matrix.scales) scales.set(*matrix.scales);
  if (matrix.biases) biases.set(*matrix.biases);
}

mx::array QuantizedSwitchLinear::operator()(const mx::array& x, const mx::array& experts,
                                            bool sorted) const {
  return with_bias(kernels::gather_quantized_matmul(x, matrix(), experts, sorted), experts);
}

QuantizedMatrix QuantizedSwitchLinear::matrix() const {
  return {type_, *weight, scales.optional(), biases.optional()};
}

std::unique_ptr<Module> QuantizedSwitchLinear::dequantized(mx::Dtype dtype) const {
  auto out = std::make_unique<SwitchLinear>(input_dims(), output_dims(), num_experts(),
                                            static_cast<bool>(bias));
  out->weight.set(kernels::dequantize(matrix(), dtype));
  if (bias) out->bias.set(*bias);
  return out;
}

std::string QuantizedSwitchLinear::settings() const {
  return SwitchLinear::settings() + ", " + detail::quant_settings(type_);
}

size_t QuantizedSwitchLinear::num_own_parameters() const {
  return static_cast<size_t>(num_experts()) * input_dims() * output_dims() +
         (bias ? bias->size() : 0);
}

ExpertRows::ExpertRows(const mx::array& x, const mx::array& experts)
    : shape_(experts.shape()), rows_(x), experts_(mx::astype(mx::flatten(experts), mx::uint32)) {
  const int k = experts.shape(-1), D = x.shape(-1);
  const auto tokens = mx::reshape(x, {-1, D});
  if (experts_.size() < kSortFrom) {
    rows_ = k == 1 ? tokens : mx::repeat(tokens, k, 0);
    return;
  }
  order_ = mx::argsort(experts_);
  rows_ = mx::take(tokens, mx::floor_divide(*order_, mx::array(k, mx::uint32)), 0);
  experts_ = mx::take(experts_, *order_, 0);
}

mx::array ExpertRows::restore(const mx::array& y) const {
  auto shape = shape_;
  shape.push_back(y.shape(-1));
  return mx::reshape(order_ ? mx::take(y, mx::argsort(*order_), 0) : y, std::move(shape));
}

SwitchGLU::SwitchGLU(int input_dims, int hidden_dims, int num_experts, bool with_bias)
    : SwitchGLU(input_dims, hidden_dims, num_experts, kernels::swiglu, with_bias) {}

SwitchGLU::SwitchGLU(int input_dims, int hidden_dims, int num_experts, Gated activation,
                     bool with_bias)
    : activation_(std::move(activation)),
      gate_proj(this, "gate_proj", input_dims, hidden_dims, num_experts, with_bias),
      up_proj(this, "up_proj", input_dims, hidden_dims, num_experts, with_bias),
      down_proj(this, "down_proj", hidden_dims, input_dims, num_experts, with_bias) {}

mx::array SwitchGLU::operator()(const mx::array& x, const mx::array& experts) const {
  const ExpertRows in(x, experts);
  const auto gate = gate_proj(in.rows(), in.experts(), in.sorted());
  const auto up = up_proj(in.rows(), in.experts(), in.sorted());
  return in.restore(down_proj(activation_(gate, up), in.experts(), in.sorted()));
}

SwitchMLP::SwitchMLP(int input_dims, int hidden_dims, int num_experts, Activation activation,
                     bool with_bias)
    : activation_(std::move(activation)),
      fc1(this, "fc1", input_dims, hidden_dims, num_experts, with_bias),
      fc2(this, "fc2", hidden_dims, input_dims, num_experts, with_bias) {}

mx::array SwitchMLP::operator()(const mx::array& x, const mx::array& experts) const {
  const ExpertRows in(x, experts);
  const auto hidden = activation_(fc1(in.rows(), in.experts(), in.sorted()));
  return in.restore(fc2(hidden, in.experts(), in.sorted()));
}

}  // namespace mlxcpp::nn

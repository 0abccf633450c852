#include "nn/linear.h"

#include "kernels/linear.h"
#include "nn/init.h"

namespace mlxcpp::nn {

Linear::Linear(int input_dims, int output_dims, bool with_bias)
    : input_dims_(input_dims),
      output_dims_(output_dims),
      weight(this, "weight", detail::uniform_init(input_dims, {output_dims, input_dims})),
      bias(this, "bias", absent) {
  if (with_bias) bias.set(detail::uniform_init(input_dims, {output_dims}));
}

Linear::Linear(int input_dims, int output_dims, std::optional<mx::array> stored_weight)
    : input_dims_(input_dims),
      output_dims_(output_dims),
      weight(this, "weight", std::move(stored_weight), Param::Kind::fixed),
      bias(this, "bias", absent) {}

mx::array Linear::operator()(const mx::array& x) const {
  return kernels::linear(x, *weight, bias.optional());
}

std::string Linear::settings() const {
  return fmt::format("input_dims={}, output_dims={}, bias={}", input_dims_, output_dims_,
                     static_cast<bool>(bias));
}

Bilinear::Bilinear(int input1_dims, int input2_dims, int output_dims, bool with_bias)
    : weight(this, "weight",
             detail::uniform_init(input1_dims, {output_dims, input2_dims, input1_dims})),
      bias(this, "bias", absent) {
  if (with_bias) bias.set(detail::uniform_init(input1_dims, {output_dims}));
}

mx::array Bilinear::operator()(const mx::array& x1, const mx::array& x2) const {
  const int outputs = weight->shape(0), in2 = weight->shape(1), in1 = weight->shape(2);
  const auto a = mx::reshape(x1, {-1, in1});
  // [T, O * in2] -> [T, O, in2], then the inner product with x2.
  const auto projected = mx::reshape(kernels::linear(a, mx::reshape(*weight, {outputs * in2, in1})),
                                     {-1, outputs, in2});
  auto y = mx::squeeze(mx::matmul(projected, mx::reshape(x2, {-1, in2, 1})), -1);
  auto shape = x1.shape();
  shape.back() = outputs;
  y = mx::reshape(y, std::move(shape));
  return bias ? y + *bias : y;
}

std::string Bilinear::settings() const {
  return fmt::format("input1_dims={}, input2_dims={}, output_dims={}, bias={}", weight->shape(2),
                     weight->shape(1), weight->shape(0), static_cast<bool>(bias));
}

}  // namespace mlxcpp::nn

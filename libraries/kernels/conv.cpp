#include "kernels/conv.h"

#include <mlx/backend/cpu/encoder.h>

#include "core/error.h"
#include "kernels/conv_grad.h"
#include "kernels/conv_run.h"
#include "kernels/primitive.h"
#include "kernels/rows.h"

namespace mlxcpp::kernels {
namespace {

std::string text(const mx::array& a) { return fmt::format("[{}]", fmt::join(a.shape(), ", ")); }

// x, weight, then bias, shift and residual where there are any.
struct Inputs {
  Conv2dOptions options;
  bool bias, shift, residual;

  bool operator==(const Inputs&) const = default;
  size_t shift_at() const { return 2 + bias; }
  size_t residual_at() const { return 2 + bias + shift; }
};

Arrays plain(const Inputs& k, const Arrays& in) {
  auto y = conv2d_plain(in[0], in[1], k.options);
  if (k.bias) y = y + in[2];
  if (k.shift) y = y + mx::expand_dims(in[k.shift_at()], {1, 2});
  return {k.residual ? y + in[k.residual_at()] : y};
}

class ConvPrimitive final : public CpuPrimitive {
 public:
  ConvPrimitive(mx::Stream s, const Inputs& kind)
      : CpuPrimitive(s, [kind](const Arrays& in) { return plain(kind, in); }), kind_(kind) {}

  void eval_cpu(const Arrays& in, Arrays& out) override {
    out[0].set_data(mx::allocator::malloc(out[0].nbytes()));
    ConvArrays a{};
    a.x = in[0].data<std::byte>();
    a.x_type = *float_type(in[0].dtype());
    a.weight = in[1].data<std::byte>();
    a.weight_type = *float_type(in[1].dtype());
    a.residual = kind_.residual ? in[kind_.residual_at()].data<std::byte>() : nullptr;
    a.y = out[0].data<std::byte>();
    a.y_type = *float_type(out[0].dtype());
    const float* bias = kind_.bias ? in[2].data<float>() : nullptr;
    const float* shift = kind_.shift ? in[kind_.shift_at()].data<float>() : nullptr;
    mx::cpu::get_command_encoder(stream()).dispatch(
        [=, s = conv_shape(in[0].shape(), in[1].shape(), out[0].shape(), kind_.options)]() mutable {
          std::vector<float> both;
          a.bias = bias;
          if (shift) {
            both.assign(shift, shift + s.n * s.outputs);
            for (size_t i = 0; bias && i < both.size(); ++i) both[i] += bias[i % s.outputs];
            a.bias = both.data();
            a.bias_each = true;
          }
          run_conv(s, a);
        });
  }

  Arrays vjp(const Arrays& primals, const Arrays& cotangents, const std::vector<int>& argnums,
             const Arrays& outputs) override {
    const mx::array &x = primals[0], &weight = primals[1], &dy = cotangents[0];
    const auto& o = kind_.options;
    if (kind_.shift || kind_.residual || !has_conv_gradient(x, weight, dy, o, stream()))
      return CpuPrimitive::vjp(primals, cotangents, argnums, outputs);
    Arrays out, weights;  // of the weight and the bias together
    for (const int i : argnums) {
      if (i > 0 && weights.empty()) weights = conv_weight_grad(x, weight, dy, o, stream());
      out.push_back(i == 0 ? conv_input_grad(x, weight, dy, o) : weights[i - 1]);
    }
    return out;
  }

  const char* name() const override { return "mlxcpp::Conv2d"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    return kind_ == static_cast<const ConvPrimitive&>(other).kind_;
  }

 private:
  Inputs kind_;
};

}  // namespace

mx::array conv2d(const mx::array& x, const mx::array& weight, const Conv2dOptions& o,
                 const ConvAddends& addends) {
  const bool fits = x.ndim() == 4 && weight.ndim() == 4 && o.groups > 0 &&
                    x.shape(3) % o.groups == 0 && weight.shape(0) % o.groups == 0 &&
                    weight.shape(3) == x.shape(3) / o.groups && weight.size() > 0;
  if (!fits)
    throw Error(
        "conv2d: x {} and weight {} do not fit with {} groups; expected [N, H, W, C] and [K, kh, "
        "kw, C / groups]",
        text(x), text(weight), o.groups);
  mx::Shape shape{x.shape(0), 0, 0, weight.shape(0)};
  const auto padding_end = o.padding_end.value_or(o.padding);
  for (int i = 0; i < 2; ++i) {
    const int end = padding_end[i];
    if (o.stride[i] < 1 || o.padding[i] < 0 || end < 0 || o.dilation[i] < 1)
      throw Error(
          "conv2d: stride {}, padding {} and {} and dilation {} must be positive (padding: or 0)",
          o.stride[i], o.padding[i], end, o.dilation[i]);
    const int64_t span = int64_t{o.dilation[i]} * (weight.shape(1 + i) - 1) + 1;
    const int64_t room = int64_t{x.shape(1 + i)} + o.padding[i] + end - span;
    if (room < 0)
      throw Error("conv2d: x {} padded by {} and {} is smaller than the filter {}", text(x),
                  o.padding[i], end, text(weight));
    shape[1 + i] = static_cast<int>(room / o.stride[i]) + 1;
  }
  const auto check = [&](const char* what, const std::optional<mx::array>& a,
                         const mx::Shape& wanted) {
    if (a && a->shape() != wanted)
      throw Error("conv2d: expected {} [{}], found {}", what, fmt::join(wanted, ", "), text(*a));
  };
  check("bias", addends.bias, {shape[3]});
  check("shift", addends.shift, {shape[0], shape[3]});
  check("residual", addends.residual, shape);

  const Inputs kind{o, addends.bias.has_value(), addends.shift.has_value(),
                    addends.residual.has_value()};
  auto dtype = mx::promote_types(x.dtype(), weight.dtype());
  for (const auto* a : {&addends.bias, &addends.shift, &addends.residual})
    if (*a) dtype = mx::promote_types(dtype, (*a)->dtype());
  const auto stream = cpu_stream();
  const bool ours = stream && float_type(x.dtype()) && float_type(weight.dtype()) &&
                    float_type(dtype) && x.size() > 0;
  Arrays in;
  if (!ours) {
    in = {x, weight};
    for (const auto* a : {&addends.bias, &addends.shift, &addends.residual})
      if (*a) in.push_back(**a);
    return mx::astype(plain(kind, in)[0], dtype);
  }
  in = {mx::contiguous(x), mx::contiguous(weight)};
  for (const auto* a : {&addends.bias, &addends.shift})
    if (*a) in.push_back(mx::contiguous(mx::astype(**a, mx::float32)));
  if (addends.residual) in.push_back(mx::contiguous(mx::astype(*addends.residual, dtype)));
  return mx::array(shape, dtype, std::make_shared<ConvPrimitive>(*stream, kind), std::move(in));
}

}  // namespace mlxcpp::kernels

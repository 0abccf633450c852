#include "kernels/conv_grad.h"

#include <mlx/backend/cpu/encoder.h>

#include "kernels/conv_run.h"
#include "kernels/rows.h"

namespace mlxcpp::kernels {
namespace {

// Zeros around dy (between its pixels `stride` apart) for the gradient of x: before and after, for
// one axis of length n.
struct Around {
  int before, after;
};
Around around(int n, int out, int kernel, int stride, int padding, int dilation) {
  const int reach = dilation * (kernel - 1);
  return {reach - padding, n + padding - ((out - 1) * stride + 1)};
}

Around around(const mx::array& x, const mx::array& weight, const mx::array& dy,
              const Conv2dOptions& o, int axis) {
  return around(x.shape(1 + axis), dy.shape(1 + axis), weight.shape(1 + axis), o.stride[axis],
                o.padding[axis], o.dilation[axis]);
}

class ConvWeightGrad final : public CpuPrimitive {
 public:
  ConvWeightGrad(mx::Stream s, const Conv2dOptions& o, const mx::Shape& weight, Fallback plain)
      : CpuPrimitive(s, std::move(plain)), o_(o), weight_(weight) {}

  // x, dy -> dweight, dbias
  void eval_cpu(const Arrays& in, Arrays& out) override {
    for (auto& a : out) a.set_data(mx::allocator::malloc(a.nbytes()));
    mx::cpu::get_command_encoder(stream()).dispatch(
        [s = conv_shape(in[0].shape(), weight_, in[1].shape(), o_), x = in[0].data<float>(),
         dy = in[1].data<float>(), dw = out[0].data<float>(),
         db = out[1].data<float>()] { run_conv_weight_grad(s, x, dy, dw, db); });
  }

  const char* name() const override { return "mlxcpp::ConvWeightGrad"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    const auto& o = static_cast<const ConvWeightGrad&>(other);
    return o_ == o.o_ && weight_ == o.weight_;
  }

 private:
  Conv2dOptions o_;
  mx::Shape weight_;
};

}  // namespace

mx::array conv2d_plain(const mx::array& x, const mx::array& weight, const Conv2dOptions& o) {
  const auto end = o.padding_end.value_or(o.padding);
  return mx::conv_general(x, weight, {o.stride[0], o.stride[1]}, {o.padding[0], o.padding[1]},
                          {end[0], end[1]}, {o.dilation[0], o.dilation[1]}, {1, 1}, o.groups);
}

bool has_conv_gradient(const mx::array& x, const mx::array& weight, const mx::array& dy,
                       const Conv2dOptions& o, mx::Stream s) {
  bool fits = s.device == mx::Device::cpu && o.groups == 1 && x.dtype() == mx::float32 &&
              weight.dtype() == mx::float32 && dy.dtype() == mx::float32 && dy.size() > 0;
  for (int i = 0; i < 2; ++i) {
    const auto [before, after] = around(x, weight, dy, o, i);
    fits = fits && before >= 0 && after >= 0;
  }
  return fits;
}

mx::array conv_input_grad(const mx::array& x, const mx::array& weight, const mx::array& dy,
                          const Conv2dOptions& o) {
  const int kh = weight.shape(1), kw = weight.shape(2);
  const auto turned =
      mx::slice(weight, {0, kh - 1, kw - 1, 0},
                {weight.shape(0), -kh - 1, -kw - 1, weight.shape(3)}, {1, -1, -1, 1});
  const auto rows = around(x, weight, dy, o, 0), columns = around(x, weight, dy, o, 1);
  auto spread = dy;
  if (o.stride[0] > 1 || o.stride[1] > 1) {
    auto shape = dy.shape();
    for (int i = 0; i < 2; ++i) shape[1 + i] = (shape[1 + i] - 1) * o.stride[i] + 1;
    spread = mx::slice_update(mx::zeros(shape), dy, {0, 0, 0, 0}, shape,
                              {1, o.stride[0], o.stride[1], 1});
  }
  return conv2d(spread, mx::transpose(turned, {3, 1, 2, 0}),
                {.padding = {rows.before, columns.before},
                 .dilation = o.dilation,
                 .padding_end = std::array{rows.after, columns.after}});
}

Arrays conv_weight_grad(const mx::array& x, const mx::array& weight, const mx::array& dy,
                        const Conv2dOptions& o, mx::Stream s) {
  // The gradient does not depend on the weights: the product is linear in them.
  const auto plain = [o, shape = weight.shape()](const Arrays& in) {
    const auto product = [&](const Arrays& w) {
      return Arrays{conv2d_plain(in[0], w[0], o) + w[1]};
    };
    return mx::vjp(product, {mx::zeros(shape), mx::zeros({shape[0]})}, {in[1]}).second;
  };
  return mx::array::make_arrays({weight.shape(), {weight.shape(0)}}, {mx::float32, mx::float32},
                                std::make_shared<ConvWeightGrad>(s, o, weight.shape(), plain),
                                {mx::contiguous(x), mx::contiguous(dy)});
}

}  // namespace mlxcpp::kernels

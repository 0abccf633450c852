#include "kernels/norm_fused.h"

#include <algorithm>

#include <mlx/backend/cpu/encoder.h>

#include "core/error.h"
#include "kernels/activations.h"
#include "kernels/conv_kernels.h"
#include "kernels/primitive.h"
#include "kernels/row_kernels.h"
#include "kernels/rows.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::kernels {
namespace {

enum class Then { norm_gelu, norm_add, scale_add, add_layer_norm, add_bias };

struct FusedKind {
  Then then;
  float eps;

  bool operator==(const FusedKind&) const = default;
};

// x, weight, then the residual where something is added, then the bias of a layer norm.
Arrays plain(const FusedKind& k, const Arrays& in) {
  switch (k.then) {
    case Then::scale_add:
      return {in[0] * in[1] + in[2]};
    case Then::add_bias:
      return {in[0] + in[1]};
    case Then::add_layer_norm:
      return {mx::fast::layer_norm(in[0] + in[2], in[1],
                                   in.size() > 3 ? std::optional(in[3]) : std::nullopt, k.eps)};
    case Then::norm_add:
      return {mx::fast::rms_norm(in[0], in[1], k.eps) + in[2]};
    case Then::norm_gelu:
      return {gelu_approx(mx::fast::rms_norm(in[0], in[1], k.eps))};
  }
  return {};
}

struct Work {
  FusedKind kind;
  Rows x, weight;
  std::optional<Rows> residual, bias;
  float* y;
};

void run(const Work& w) {
  constexpr auto kType = static_cast<size_t>(FloatType::f32);
  const auto norm = row_kernels().rms_norm[kType];
  const auto layer_norm = row_kernels().layer_norm[kType];
  const auto gelu = row_kernels().activation[static_cast<size_t>(Activation::gelu_approx)][kType];
  const auto add = conv_kernels().finish[kType];
  const auto scale = conv_kernels().normalise[kType];
  const size_t n = w.x.length();
  // What follows is done while the row is in the first cache.
  const std::vector<float> zeros(w.kind.then == Then::scale_add ? n : 0);
  parallel_for(w.x.count(), row_grain(n), [&](size_t begin, size_t end) {
    RowBuffer x_buffer, weight_buffer, residual_buffer, bias_buffer;
    const auto floats = [](const void* p) { return static_cast<const float*>(p); };
    const float* weight = floats(w.weight.read(0, weight_buffer));
    const float* bias = w.bias ? floats(w.bias->read(0, bias_buffer)) : nullptr;
    for (size_t r = begin; r < end; ++r) {
      const float* x = floats(w.x.read(r, x_buffer));
      const float* rest = w.residual ? floats(w.residual->read(r, residual_buffer)) : nullptr;
      float* y = w.y + r * n;
      switch (w.kind.then) {
        case Then::norm_gelu:
          norm(x, weight, y, n, w.kind.eps);
          gelu(y, nullptr, y, n);
          break;
        case Then::norm_add:
          norm(x, weight, y, n, w.kind.eps);
          add(y, nullptr, rest, y, n);
          break;
        case Then::scale_add:
          scale(x, 1, n, zeros.data(), weight, rest, false, y);
          break;
        case Then::add_layer_norm:
          add(x, nullptr, rest, y, n);
          layer_norm(y, weight, bias, y, n, w.kind.eps);
          break;
        case Then::add_bias:
          add(x, weight, nullptr, y, n);
          break;
      }
    }
  });
}

class FusedPrimitive final : public CpuPrimitive {
 public:
  FusedPrimitive(mx::Stream s, const FusedKind& kind)
      : CpuPrimitive(s, [kind](const Arrays& in) { return plain(kind, in); }), kind_(kind) {}

  void eval_cpu(const Arrays& in, Arrays& out) override {
    const auto maybe = [&](size_t i) {
      return i < in.size() ? std::optional(Rows(in[i])) : std::nullopt;
    };
    Work w{kind_, Rows(in[0]), Rows(in[1]), maybe(2), maybe(3), nullptr};
    allocate_or_take(out[0], in[0]);
    w.y = out[0].data<float>();
    mx::cpu::get_command_encoder(stream()).dispatch([w] { run(w); });
  }

  const char* name() const override { return "mlxcpp::FusedNorm"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    return kind_ == static_cast<const FusedPrimitive&>(other).kind_;
  }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override { return {in[0].shape()}; }

 private:
  FusedKind kind_;
};

mx::array fused(const char* op, const FusedKind& kind, Arrays in) {
  const mx::array& x = in[0];
  const auto text = [](const mx::array& a) {
    return fmt::format("[{}]", fmt::join(a.shape(), ", "));
  };
  if (x.ndim() == 0 || in[1].shape() != mx::Shape{x.shape(-1)} ||
      (in.size() > 2 && in[2].shape() != x.shape()) ||
      (in.size() > 3 && in[3].shape() != in[1].shape()))
    throw Error("{}: weight {} {}{}do not fit x {}", op, text(in[1]),
                in.size() > 2 ? "and residual " + text(in[2]) + " " : "",
                in.size() > 3 ? "and bias " + text(in[3]) + " " : "", text(x));
  auto dtype = x.dtype();
  for (const mx::array& a : in) dtype = mx::promote_types(dtype, a.dtype());
  for (mx::array& a : in) a = mx::astype(a, dtype);
  const auto stream = cpu_stream();
  if (!stream || dtype != mx::float32 || x.size() == 0) return plain(kind, in)[0];
  auto shape = in[0].shape();
  return mx::array(std::move(shape), dtype, std::make_shared<FusedPrimitive>(*stream, kind),
                   std::move(in));
}

}  // namespace

mx::array rms_norm_gelu_approx(const mx::array& x, const mx::array& weight, float eps) {
  return fused("rms_norm_gelu_approx", {Then::norm_gelu, eps}, {x, weight});
}

mx::array rms_norm_add(const mx::array& x, const mx::array& weight, const mx::array& residual,
                       float eps) {
  return fused("rms_norm_add", {Then::norm_add, eps}, {x, weight, residual});
}

mx::array scale_add(const mx::array& x, const mx::array& weight, const mx::array& residual) {
  return fused("scale_add", {Then::scale_add, 0}, {x, weight, residual});
}

mx::array add_layer_norm(const mx::array& x, const mx::array& residual, const mx::array& weight,
                         const std::optional<mx::array>& bias, float eps) {
  Arrays in{x, weight, residual};
  if (bias) in.push_back(*bias);
  return fused("add_layer_norm", {Then::add_layer_norm, eps}, std::move(in));
}

mx::array add_bias(const mx::array& x, const mx::array& bias) {
  return fused("add_bias", {Then::add_bias, 0}, {x, bias});
}

}  // namespace mlxcpp::kernels

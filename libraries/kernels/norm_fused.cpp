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

enum class Then { norm_gelu, norm_add, scale_add };

struct FusedKind {
  Then then;
  float eps;

  bool operator==(const FusedKind&) const = default;
};

// x, weight, then the residual where something is added.
Arrays plain(const FusedKind& k, const Arrays& in) {
  if (k.then == Then::scale_add) return {in[0] * in[1] + in[2]};
  const auto y = mx::fast::rms_norm(in[0], in[1], k.eps);
  return {k.then == Then::norm_gelu ? gelu_approx(y) : y + in[2]};
}

struct Work {
  FusedKind kind;
  const float *x, *weight, *residual;
  float* y;
  size_t rows, n;
};

void run(const Work& w) {
  constexpr auto kType = static_cast<size_t>(FloatType::f32);
  const auto norm = row_kernels().rms_norm[kType];
  const auto gelu = row_kernels().activation[static_cast<size_t>(Activation::gelu_approx)][kType];
  const auto add = conv_kernels().finish[kType];
  const auto scale = conv_kernels().normalise[kType];
  // What follows is done while the row is in the first cache.
  const std::vector<float> zeros(w.kind.then == Then::scale_add ? w.n : 0);
  parallel_for(w.rows, row_grain(w.n), [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r) {
      const float* x = w.x + r * w.n;
      float* y = w.y + r * w.n;
      switch (w.kind.then) {
        case Then::norm_gelu:
          norm(x, w.weight, y, w.n, w.kind.eps);
          gelu(y, nullptr, y, w.n);
          break;
        case Then::norm_add:
          norm(x, w.weight, y, w.n, w.kind.eps);
          add(y, nullptr, w.residual + r * w.n, y, w.n);
          break;
        case Then::scale_add:
          scale(x, 1, w.n, zeros.data(), w.weight, w.residual + r * w.n, false, y);
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
    allocate_or_take(out[0], in[0]);
    const auto n = static_cast<size_t>(in[0].shape(-1));
    const Work w{kind_,
                 in[0].data<float>(),
                 in[1].data<float>(),
                 in.size() > 2 ? in[2].data<float>() : nullptr,
                 out[0].data<float>(),
                 in[0].size() / n,
                 n};
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
      (in.size() > 2 && in[2].shape() != x.shape()))
    throw Error("{}: weight {} {}do not fit x {}", op, text(in[1]),
                in.size() > 2 ? "and residual " + text(in[2]) + " " : "", text(x));
  auto dtype = x.dtype();
  for (const mx::array& a : in) dtype = mx::promote_types(dtype, a.dtype());
  for (mx::array& a : in) a = mx::astype(a, dtype);
  const auto stream = cpu_stream();
  if (!stream || dtype != mx::float32 || x.size() == 0) return plain(kind, in)[0];
  for (mx::array& a : in) a = mx::contiguous(a);
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

}  // namespace mlxcpp::kernels

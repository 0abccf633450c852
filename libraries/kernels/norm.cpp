#include "kernels/norm.h"

#include <mlx/backend/cpu/encoder.h>

#include "core/error.h"
#include "kernels/gradients.h"
#include "kernels/primitive.h"
#include "kernels/row_kernels.h"
#include "kernels/rows.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::kernels {
namespace {

// x, then weight and bias where there are any.
struct NormKind {
  bool layer;  // layer_norm, otherwise rms_norm
  bool weight, bias;
  float eps;

  bool operator==(const NormKind&) const = default;
};

Arrays plain(const NormKind& kind, const Arrays& in) {
  const auto weight = kind.weight ? std::optional(in[1]) : std::nullopt;
  const auto bias = kind.bias ? std::optional(in[1 + kind.weight]) : std::nullopt;
  return {kind.layer ? mx::fast::layer_norm(in[0], weight, bias, kind.eps)
                     : mx::fast::rms_norm(in[0], weight, kind.eps)};
}

class NormPrimitive final : public CpuPrimitive {
 public:
  NormPrimitive(mx::Stream s, NormKind kind)
      : CpuPrimitive(s, [kind](const Arrays& in) { return plain(kind, in); }), kind_(kind) {}

  void eval_cpu(const Arrays& in, Arrays& out) override {
    const mx::array& x = in[0];
    const auto type = static_cast<size_t>(*float_type(x.dtype()));
    const auto rms = row_kernels().rms_norm[type];
    const auto layer = row_kernels().layer_norm[type];
    const auto maybe = [&](bool there, size_t i) {
      return there ? std::optional(Rows(in[i])) : std::nullopt;
    };
    auto weight = maybe(kind_.weight, 1), bias = maybe(kind_.bias, 1 + kind_.weight);
    const Rows rows(x);
    allocate_or_take(out[0], x);
    auto& encoder = mx::cpu::get_command_encoder(stream());
    encoder.dispatch([=, kind = kind_, item = x.itemsize(), y = out[0].data<std::byte>()] {
      const size_t n = rows.length();
      parallel_for(rows.count(), row_grain(n), [&](size_t b, size_t e) {
        RowBuffer x_buffer, weight_buffer, bias_buffer;
        const void* w = weight ? weight->read(0, weight_buffer) : nullptr;
        const void* shift = bias ? bias->read(0, bias_buffer) : nullptr;
        for (size_t r = b; r < e; ++r) {
          const void* from = rows.read(r, x_buffer);
          void* to = row_of(y, r, n, item);
          if (kind.layer)
            layer(from, w, shift, to, n, kind.eps);
          else
            rms(from, w, to, n, kind.eps);
        }
      });
    });
  }

  Arrays vjp(const Arrays& primals, const Arrays& cotangents, const std::vector<int>& argnums,
             const Arrays& outputs) override {
    // With respect to x. Weight and bias are summed over all rows, by plain operations.
    const bool has_kernel = has_gradient_kernel(primals, stream());
    std::vector<int> others;
    for (const int i : argnums)
      if (i != 0 || !has_kernel) others.push_back(i);
    auto rest = others.empty() ? Arrays{} : CpuPrimitive::vjp(primals, cotangents, others, outputs);
    Arrays out;
    size_t next = 0;
    for (const int i : argnums)
      out.push_back(i != 0 || !has_kernel
                        ? rest[next++]
                        : norm_grad(kind_.layer, primals[0],
                                    kind_.weight ? std::optional(primals[1]) : std::nullopt,
                                    cotangents[0], kind_.eps, stream()));
    return out;
  }

  const char* name() const override {
    return kind_.layer ? "mlxcpp::LayerNorm" : "mlxcpp::RMSNorm";
  }
  bool is_equivalent(const mx::Primitive& other) const override {
    return kind_ == static_cast<const NormPrimitive&>(other).kind_;
  }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override { return {in[0].shape()}; }

 private:
  NormKind kind_;
};

mx::array norm(const char* op, bool layer, const mx::array& x,
               const std::optional<mx::array>& weight, const std::optional<mx::array>& bias,
               float eps) {
  if (x.ndim() == 0) throw Error("{}: expected at least one axis, found a scalar", op);
  const auto check = [&](const char* what, const std::optional<mx::array>& a) {
    if (a && a->shape() != mx::Shape{x.shape(-1)})
      throw Error("{}: the {} must have shape {} as the last axis of x, found {}", op, what,
                  x.shape(-1), fmt::join(a->shape(), "x"));
  };
  check("weight", weight);
  check("bias", bias);

  const NormKind kind{layer, weight.has_value(), bias.has_value(), eps};
  // As in MLX, the wider of the types is the result's.
  auto dtype = x.dtype();
  if (weight) dtype = mx::promote_types(dtype, weight->dtype());
  if (weight && bias) dtype = mx::promote_types(dtype, bias->dtype());
  Arrays in{mx::astype(x, dtype)};
  if (weight) in.push_back(mx::astype(*weight, dtype));
  if (bias) in.push_back(mx::astype(*bias, dtype));

  const auto stream = cpu_stream();
  if (!stream || !float_type(dtype) || x.size() == 0) return plain(kind, in)[0];
  return mx::array(x.shape(), dtype, std::make_shared<NormPrimitive>(*stream, kind), std::move(in));
}

}  // namespace

mx::array rms_norm(const mx::array& x, const std::optional<mx::array>& weight, float eps) {
  return norm("rms_norm", false, x, weight, std::nullopt, eps);
}

mx::array layer_norm(const mx::array& x, const std::optional<mx::array>& weight,
                     const std::optional<mx::array>& bias, float eps) {
  return norm("layer_norm", true, x, weight, bias, eps);
}

}  // namespace mlxcpp::kernels

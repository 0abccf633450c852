#include "kernels/attention.h"

#include <cstring>
#include <limits>

#include <mlx/backend/cpu/encoder.h>

#include "core/error.h"
#include "kernels/attention_mlx.h"
#include "kernels/attention_run.h"
#include "kernels/gradients.h"
#include "kernels/primitive.h"

namespace mlxcpp::kernels {
namespace {

// [L, S] bool: which keys each query sees.
mx::array causal_mask(int L, int S, std::optional<int> window) {
  const auto keys = mx::expand_dims(mx::arange(S), 0);
  const auto queries = mx::expand_dims(mx::arange(S - L, S), 1);
  auto seen = mx::less_equal(keys, queries);
  if (window) seen = mx::logical_and(seen, mx::greater(keys, queries - mx::array(*window)));
  return seen;
}

std::string shape_text(const mx::array& a) {
  return fmt::format("[{}]", fmt::join(a.shape(), ", "));
}

class Attention final : public CpuPrimitive {
 public:
  Attention(mx::Stream s, Fallback fallback, AttentionOptions o)
      : CpuPrimitive(s, std::move(fallback)), o_(std::move(o)) {}

  void eval_cpu(const Arrays& in, Arrays& out) override {
    const auto q = with_dense_rows(in[0], stream()), k = with_dense_rows(in[1], stream()),
               v = with_dense_rows(in[2], stream());
    AttentionArgs a;
    a.kv_heads = k.shape(1);
    a.keys = k.shape(2);
    a.kv_format = kv_format(k.dtype());
    set_query(a, q, out[0], o_, in.data() + 3);
    const KvSegment all{plane_of(k), plane_of(v), a.keys};
    mx::cpu::get_command_encoder(stream()).dispatch([a, all]() mutable {
      a.segments = &all;
      a.num_segments = 1;
      run_attention(a);
    });
  }
  Arrays vjp(const Arrays& primals, const Arrays& cotangents, const std::vector<int>& argnums,
             const Arrays& outputs) override {
    const Arrays qkv(primals.begin(), primals.begin() + 3);
    const bool plain = std::any_of(argnums.begin(), argnums.end(), [](int i) { return i > 2; }) ||
                       !has_gradient_kernel(qkv, stream());
    if (plain) return CpuPrimitive::vjp(primals, cotangents, argnums, outputs);
    AttentionOptions o = o_;
    size_t next = 3;
    if (o.mask) o.mask = primals[next++];
    if (o.sinks) o.sinks = primals[next];
    const auto all = attention_grad(qkv[0], qkv[1], qkv[2], o, cotangents[0], stream());
    Arrays out;
    for (const int i : argnums) out.push_back(all[i]);
    return out;
  }
  std::pair<Arrays, std::vector<int>> vmap(const Arrays& in,
                                           const std::vector<int>& axes) override {
    return {mx::vmap(fallback_, axes, {0})(in), {0}};
  }

  const char* name() const override { return "mlxcpp::Attention"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    const auto& o = static_cast<const Attention&>(other).o_;
    return o.scale == o_.scale && o.causal == o_.causal && o.window == o_.window &&
           o.softcap == o_.softcap && o.mask.has_value() == o_.mask.has_value() &&
           o.sinks.has_value() == o_.sinks.has_value();
  }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override {
    auto shape = in[0].shape();
    shape[3] = in[2].shape(3);
    return {shape};
  }

 private:
  AttentionOptions o_;  // mask and sinks: whether there are any; the arrays are inputs
};

}  // namespace

bool is_kernel_float(mx::Dtype dtype) {
  return dtype == mx::float32 || dtype == mx::bfloat16 || dtype == mx::float16;
}

KvFormat kv_format(mx::Dtype dtype) {
  return dtype == mx::float32    ? KvFormat::f32
         : dtype == mx::bfloat16 ? KvFormat::bf16
                                 : KvFormat::f16;
}

MaskFormat mask_format(mx::Dtype dtype) {
  return dtype == mx::bool_      ? MaskFormat::boolean
         : dtype == mx::float32  ? MaskFormat::f32
         : dtype == mx::bfloat16 ? MaskFormat::bf16
                                 : MaskFormat::f16;
}

void check_attention(const mx::array& q, const mx::array& k, const mx::array& v,
                     const AttentionOptions& o, int seen) {
  const bool fits = q.ndim() == 4 && k.ndim() == 4 && v.ndim() == 4 && k.shape(0) == q.shape(0) &&
                    v.shape(0) == q.shape(0) && k.shape(1) == v.shape(1) &&
                    k.shape(2) == v.shape(2) && k.shape(3) == q.shape(3) && k.shape(1) > 0 &&
                    q.shape(1) % k.shape(1) == 0;
  if (!fits)
    throw Error(
        "attention: q {}, k {} and v {} do not fit; expected [B, H, L, D], [B, Hkv, S, D] and "
        "[B, Hkv, S, Dv] with H a multiple of Hkv",
        shape_text(q), shape_text(k), shape_text(v));
  if (o.window && *o.window < 1)
    throw Error("attention: a window of {} is not positive", *o.window);
  if (!(o.softcap >= 0.0f)) throw Error("attention: softcap {} is negative", o.softcap);
  if (o.sinks && o.sinks->shape() != mx::Shape{q.shape(1)})
    throw Error("attention: sinks are {}, expected [{}], one a head", shape_text(*o.sinks),
                q.shape(1));
  if (!o.mask) return;
  const mx::Shape scores{q.shape(0), q.shape(1), q.shape(2), seen + k.shape(2)};
  const auto& m = o.mask->shape();
  bool broadcasts = m.size() <= 4;
  for (size_t i = 0; broadcasts && i < m.size(); ++i) {
    const int have = m[m.size() - 1 - i];
    broadcasts = have == 1 || have == scores[3 - i];
  }
  if (!broadcasts)
    throw Error("attention: a mask {} does not broadcast to [B, H, L, S] = [{}]",
                shape_text(*o.mask), fmt::join(scores, ", "));
}

void append_option_inputs(Arrays& inputs, const AttentionOptions& o, const mx::Shape& mask_shape) {
  if (o.mask) {
    const bool as_it_is = o.mask->dtype() == mx::bool_ || is_kernel_float(o.mask->dtype());
    inputs.push_back(
        mx::broadcast_to(as_it_is ? *o.mask : mx::astype(*o.mask, mx::float32), mask_shape));
  }
  if (o.sinks) inputs.push_back(mx::contiguous(mx::astype(*o.sinks, mx::float32)));
}

mx::array with_dense_rows(const mx::array& a, const mx::Stream& s) {
  if (a.strides().back() == 1 || a.shape(-1) <= 1 || a.size() == 0) return a;
  mx::array dense(a.shape(), a.dtype(), nullptr, {});
  dense.set_data(mx::allocator::malloc(dense.nbytes()));
  auto& encoder = mx::cpu::get_command_encoder(s);
  encoder.add_temporary(dense);
  encoder.dispatch([from = a.data<std::byte>(), to = dense.data<std::byte>(), shape = a.shape(),
                    strides = a.strides(), item = a.itemsize()]() mutable {
    const int width = shape.back();
    size_t rows = 1;
    for (size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
    for (size_t row = 0; row < rows; ++row) {
      int64_t at = 0;
      size_t left = row;
      for (int i = static_cast<int>(shape.size()) - 2; i >= 0; --i) {
        at += static_cast<int64_t>(left % shape[i]) * strides[i];
        left /= shape[i];
      }
      for (int d = 0; d < width; ++d, to += item)
        std::memcpy(to, from + (at + d * strides.back()) * static_cast<int64_t>(item), item);
    }
  });
  return dense;
}

KvPlane plane_of(const mx::array& a) {
  const auto item = static_cast<ptrdiff_t>(a.itemsize());
  KvPlane p;
  p.data = a.data<std::byte>();
  p.batch = a.strides(0) * item;
  p.head = a.strides(1) * item;
  p.token = a.strides(2) * item;
  return p;
}

void set_query(AttentionArgs& a, const mx::array& q, mx::array& out, const AttentionOptions& o,
               const mx::array* options) {
  const int B = q.shape(0), H = q.shape(1), L = q.shape(2), Dv = out.shape(3);
  if (L == 1 || H == 1) {
    out.set_data(mx::allocator::malloc(out.nbytes()));
  } else {
    mx::array::Flags flags{};
    flags.contiguous = true;
    const int64_t row = static_cast<int64_t>(H) * Dv;
    out.set_data(mx::allocator::malloc(out.nbytes()), out.size(), {L * row, Dv, row, 1}, flags);
  }
  const auto in = plane_of(q), to = plane_of(out);
  a.batch = B;
  a.heads = H;
  a.queries = L;
  a.dim = q.shape(3);
  a.value_dim = Dv;
  a.q_format = kv_format(q.dtype());
  a.q = in.data;
  a.q_batch = in.batch;
  a.q_head = in.head;
  a.q_token = in.token;
  a.out = out.data<std::byte>();
  a.out_batch = to.batch;
  a.out_head = to.head;
  a.out_token = to.token;
  a.scale = o.scale;
  a.softcap = o.softcap;
  a.causal = o.causal && !o.mask;
  a.window = a.causal ? o.window.value_or(0) : 0;
  if (o.mask) {
    const mx::array& mask = *options++;
    const auto item = static_cast<ptrdiff_t>(mask.itemsize());
    a.mask_format = mask_format(mask.dtype());
    a.mask = mask.data<std::byte>();
    a.mask_batch = mask.strides(0) * item;
    a.mask_head = mask.strides(1) * item;
    a.mask_query = mask.strides(2) * item;
    a.mask_key = mask.strides(3) * item;
  }
  if (o.sinks) a.sinks = options->data<float>();
}

mx::array plain_attention(const mx::array& q, const mx::array& k, const mx::array& v,
                          const AttentionOptions& o) {
  const int B = q.shape(0), H = q.shape(1), L = q.shape(2), D = q.shape(3);
  const int Hkv = k.shape(1), S = k.shape(2), Dv = v.shape(3), group = H / Hkv;
  const auto f32 = [](const mx::array& x) { return mx::astype(x, mx::float32); };
  const auto infinity = mx::array(-std::numeric_limits<float>::infinity());
  // [B, Hkv, group, L, S]
  const auto queries = mx::reshape(f32(q) * mx::array(o.scale), {B, Hkv, group, L, D});
  auto scores = mx::matmul(queries, mx::swapaxes(mx::expand_dims(f32(k), 2), -1, -2));
  if (o.softcap > 0.0f) scores = mx::array(o.softcap) * mx::tanh(scores / mx::array(o.softcap));
  if (o.mask) {
    const auto mask = mx::reshape(mx::broadcast_to(*o.mask, {B, H, L, S}), {B, Hkv, group, L, S});
    scores = mask.dtype() == mx::bool_ ? mx::where(mask, scores, infinity) : scores + f32(mask);
  } else if (o.causal) {
    scores = mx::where(causal_mask(L, S, o.window), scores, infinity);
  }
  // Softmax by hand: a row that sees nothing is zero, and the sink is in the sum only.
  auto top = S > 0 ? mx::max(scores, -1, true) : mx::full({B, Hkv, group, L, 1}, infinity);
  std::optional<mx::array> sink;
  if (o.sinks) {
    sink = mx::reshape(f32(*o.sinks), {1, Hkv, group, 1, 1});
    top = mx::maximum(top, *sink);
  }
  top = mx::stop_gradient(mx::where(mx::isinf(top), mx::array(0.0f), top));
  const auto weights = mx::exp(scores - top);
  auto sum = mx::sum(weights, -1, true);
  if (sink) sum = sum + mx::exp(*sink - top);
  sum = mx::where(mx::equal(sum, mx::array(0.0f)), mx::array(1.0f), sum);
  const auto y = mx::matmul(weights, mx::expand_dims(f32(v), 2)) / sum;
  return mx::astype(mx::reshape(y, {B, H, L, Dv}), q.dtype());
}

mx::array attention(const mx::array& q, const mx::array& k, const mx::array& v,
                    const AttentionOptions& o) {
  check_attention(q, k, v, o, 0);
  const auto stream = mx::default_stream(mx::default_device());
  const int L = q.shape(2), S = k.shape(2);
  if (stream.device != mx::Device::cpu) {
    if (o.softcap > 0.0f || S == 0) return plain_attention(q, k, v, o);
    auto mask = o.mask;
    if (!mask && o.causal && o.window && S > *o.window) mask = causal_mask(L, S, o.window);
    if (mask && mask->dtype() != mx::bool_) mask = mx::astype(*mask, q.dtype());
    const bool causal = !mask && o.causal && L > 1;
    auto sinks = o.sinks;
    if (sinks) sinks = mx::astype(*sinks, q.dtype());
    return mx::fast::scaled_dot_product_attention(q, k, v, o.scale, causal ? "causal" : "", mask,
                                                  sinks);
  }
  if (!is_kernel_float(q.dtype())) return plain_attention(q, k, v, o);

  Arrays inputs{q, mx::astype(k, q.dtype()), mx::astype(v, q.dtype())};
  append_option_inputs(inputs, o, {q.shape(0), q.shape(1), L, S});
  const auto fallback = [o](const Arrays& in) -> Arrays {
    AttentionOptions with = o;
    size_t i = 3;
    if (o.mask) with.mask = in[i++];
    if (o.sinks) with.sinks = in[i++];
    return {plain_attention(in[0], in[1], in[2], with)};
  };
  mx::Shape shape = q.shape();
  shape[3] = v.shape(3);
  return mx::array(shape, q.dtype(), std::make_shared<Attention>(stream, fallback, o), inputs);
}

}  // namespace mlxcpp::kernels

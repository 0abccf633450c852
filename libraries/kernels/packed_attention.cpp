#include "kernels/packed_attention.h"

#include <algorithm>
#include <numeric>

#include <mlx/backend/cpu/encoder.h>

#include "core/error.h"
#include "kernels/attention_mlx.h"
#include "kernels/attention_run.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::kernels {
namespace {

constexpr size_t kManySequences = 8;  // from here on threads share sequences, not parts of one

std::string shape_text(const mx::array& a) {
  return fmt::format("[{}]", fmt::join(a.shape(), ", "));
}

// Strides of [T, heads, D] with a dense last axis, in bytes; one batch row.
KvPlane plane(const mx::array& a) {
  const auto item = static_cast<ptrdiff_t>(a.itemsize());
  KvPlane p;
  p.data = a.data<std::byte>();
  p.token = a.strides(0) * item;
  p.head = a.strides(1) * item;
  return p;
}

class PackedAttention final : public CpuPrimitive {
 public:
  PackedAttention(mx::Stream s, Fallback fallback, std::vector<int> lengths,
                  const PackedAttentionOptions& o)
      : CpuPrimitive(s, std::move(fallback)), lengths_(std::move(lengths)), o_(o) {}

  void eval_cpu(const Arrays& in, Arrays& out) override {
    out[0].set_data(mx::allocator::malloc(out[0].nbytes()));
    const auto q = with_dense_rows(in[0], stream()), k = with_dense_rows(in[1], stream()),
               v = with_dense_rows(in[2], stream());
    AttentionArgs a;
    a.batch = 1;
    a.heads = q.shape(1);
    a.kv_heads = k.shape(1);
    a.dim = q.shape(2);
    a.value_dim = v.shape(2);
    a.q_format = a.kv_format = kv_format(q.dtype());
    a.scale = o_.scale;
    a.softcap = o_.softcap;
    a.causal = o_.causal;
    a.window = o_.window.value_or(0);
    const KvPlane from = plane(q), to = plane(out[0]);
    a.q = from.data;
    a.q_head = from.head;
    a.q_token = from.token;
    a.out = out[0].data<std::byte>();
    a.out_head = to.head;
    a.out_token = to.token;
    mx::cpu::get_command_encoder(stream()).dispatch(
        [a, keys = plane(k), values = plane(v), lengths = lengths_] {
          run(a, keys, values, lengths);
        });
  }

  const char* name() const override { return "mlxcpp::PackedAttention"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    const auto& p = static_cast<const PackedAttention&>(other);
    return p.lengths_ == lengths_ && p.o_.scale == o_.scale && p.o_.causal == o_.causal &&
           p.o_.window == o_.window && p.o_.softcap == o_.softcap;
  }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override {
    auto shape = in[0].shape();
    shape[2] = in[2].shape(2);
    return {shape};
  }

 private:
  static void run(const AttentionArgs& all, const KvPlane& keys, const KvPlane& values,
                  const std::vector<int>& lengths) {
    std::vector<ptrdiff_t> starts(lengths.size());
    std::exclusive_scan(lengths.begin(), lengths.end(), starts.begin(), ptrdiff_t{0});
    const auto one = [&](size_t i) {
      KvSegment segment{keys, values, lengths[i]};
      segment.k.data += starts[i] * keys.token;
      segment.v.data += starts[i] * values.token;
      AttentionArgs a = all;
      a.queries = a.keys = lengths[i];
      a.q += starts[i] * a.q_token;
      a.out += starts[i] * a.out_token;
      a.segments = &segment;
      a.num_segments = 1;
      run_attention(a);
    };
    const size_t grain = lengths.size() < kManySequences ? lengths.size() : 1;
    parallel_for(lengths.size(), grain, [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) one(i);
    });
  }

  std::vector<int> lengths_;
  PackedAttentionOptions o_;
};

void check(const mx::array& q, const mx::array& k, const mx::array& v,
           const std::vector<int>& lengths, const PackedAttentionOptions& o) {
  const bool fits = q.ndim() == 3 && k.ndim() == 3 && v.ndim() == 3 && k.shape(0) == q.shape(0) &&
                    v.shape(0) == q.shape(0) && k.shape(1) == v.shape(1) &&
                    k.shape(2) == q.shape(2) && k.shape(1) > 0 && q.shape(1) % k.shape(1) == 0;
  if (!fits)
    throw Error(
        "packed attention: q {}, k {} and v {} do not fit; expected [T, H, D], [T, Hkv, D] and "
        "[T, Hkv, Dv] with H a multiple of Hkv",
        shape_text(q), shape_text(k), shape_text(v));
  int64_t sum = 0;
  for (const int n : lengths) {
    if (n < 0) throw Error("packed attention: a sequence of {} tokens", n);
    sum += n;
  }
  if (sum != q.shape(0))
    throw Error("packed attention: the sequences have {} tokens, q has {}", sum, q.shape(0));
  if (o.window && *o.window < 1)
    throw Error("packed attention: a window of {} is not positive", *o.window);
  if (!(o.softcap >= 0.0f)) throw Error("packed attention: softcap {} is negative", o.softcap);
}

mx::array int_array(const std::vector<int>& values, mx::Shape shape) {
  return mx::array(values.data(), std::move(shape), mx::int32);
}

}  // namespace

mx::array padded_attention(const mx::array& q, const mx::array& k, const mx::array& v,
                           const std::vector<int>& lengths, const PackedAttentionOptions& o) {
  const int B = static_cast<int>(lengths.size()), T = q.shape(0);
  const int L = B == 0 ? 0 : *std::max_element(lengths.begin(), lengths.end());
  if (T == 0) return mx::zeros({0, q.shape(1), v.shape(2)}, q.dtype());
  // token of each padded place (any, where there is none), and the place of each token
  std::vector<int> tokens, places;
  int start = 0;
  for (int b = 0; b < B; start += lengths[b++])
    for (int i = 0; i < L; ++i) {
      tokens.push_back(i < lengths[b] ? start + i : 0);
      if (i < lengths[b]) places.push_back(b * L + i);
    }
  const auto at = int_array(tokens, {B, L});
  const auto pad = [&](const mx::array& x) {  // [T, H, D] -> [B, H, L, D]
    return mx::transpose(mx::take(x, at, 0), {0, 2, 1, 3});
  };
  const auto row = mx::reshape(mx::arange(L), {1, 1, 1, L});
  const auto column = mx::reshape(mx::arange(L), {1, 1, L, 1});
  auto seen = mx::less(row, int_array(lengths, {B, 1, 1, 1}));
  if (o.causal) seen = mx::logical_and(seen, mx::less_equal(row, column));
  if (o.window) seen = mx::logical_and(seen, mx::less(mx::abs(row - column), mx::array(*o.window)));
  const auto y = attention(
      pad(q), pad(k), pad(v),
      {.scale = o.scale, .causal = false, .mask = seen, .softcap = o.softcap});  // [B, H, L, Dv]
  const auto flat = mx::reshape(mx::transpose(y, {0, 2, 1, 3}), {B * L, q.shape(1), v.shape(2)});
  return mx::take(flat, int_array(places, {T}), 0);
}

mx::array packed_attention(const mx::array& q, const mx::array& k, const mx::array& v,
                           const std::vector<int>& lengths, const PackedAttentionOptions& o) {
  check(q, k, v, lengths, o);
  const auto stream = mx::default_stream(mx::default_device());
  if (stream.device != mx::Device::cpu || !is_kernel_float(q.dtype()) || q.size() == 0)
    return padded_attention(q, k, v, lengths, o);
  const auto fallback = [lengths, o](const Arrays& in) -> Arrays {
    return {padded_attention(in[0], in[1], in[2], lengths, o)};
  };
  mx::Shape shape = q.shape();
  shape[2] = v.shape(2);
  return mx::array(shape, q.dtype(),
                   std::make_shared<PackedAttention>(stream, fallback, lengths, o),
                   {q, mx::astype(k, q.dtype()), mx::astype(v, q.dtype())});
}

}  // namespace mlxcpp::kernels

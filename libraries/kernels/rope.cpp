#include "kernels/rope.h"

#include <cstring>

#include <mlx/backend/cpu/encoder.h>

#include "core/error.h"
#include "kernels/primitive.h"
#include "kernels/row_kernels.h"
#include "kernels/rows.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::kernels {
namespace {

// Inputs: x, inv_freq, and the positions where each row has its own.
struct RopeKind {
  int dims;
  bool traditional;
  float scale;
  std::optional<int> offset;  // for all rows

  bool operator==(const RopeKind&) const = default;
};

Arrays plain(const RopeKind& kind, const Arrays& in) {
  const mx::array& x = in[0];
  const auto wavelengths = mx::array(1.0f) / in[1];  // what fast::rope calls freqs
  const auto rotate = [&](const mx::array& part) {
    const auto run = [&](const auto& offset) {
      return mx::fast::rope(part, kind.dims, kind.traditional, std::nullopt, 1.0f, offset,
                            wavelengths);
    };
    return kind.offset ? run(*kind.offset) : run(in[2]);
  };
  if (kind.scale == 1.0f) return {rotate(x)};
  const auto parts = mx::split(x, mx::Shape{kind.dims}, -1);
  const auto rotated = rotate(parts[0] * mx::array(kind.scale, x.dtype()));
  return {kind.dims == x.shape(-1) ? rotated : mx::concatenate({rotated, parts[1]}, -1)};
}

class RopePrimitive final : public CpuPrimitive {
 public:
  RopePrimitive(mx::Stream s, RopeKind kind)
      : CpuPrimitive(s, [kind](const Arrays& in) { return plain(kind, in); }), kind_(kind) {}

  void eval_cpu(const Arrays& in, Arrays& out) override {
    const mx::array& x = in[0];
    const Rows rows(x), freqs(in[1]);
    const auto positions = kind_.offset ? std::nullopt : std::optional(Rows(in[2]));
    allocate_or_take(out[0], x);
    const Job job{kind_,
                  row_kernels(),
                  static_cast<size_t>(*float_type(x.dtype())),
                  x.itemsize(),
                  static_cast<size_t>(x.shape(0)),
                  static_cast<size_t>(x.shape(-2))};
    auto& encoder = mx::cpu::get_command_encoder(stream());
    encoder.dispatch([=, y = out[0].data<std::byte>()] {
      RowBuffer freq_buffer, position_buffer;
      const auto* inv_freq = static_cast<const float*>(freqs.read(0, freq_buffer));
      const int* starts = nullptr;
      if (positions) starts = static_cast<const int*>(positions->read(0, position_buffer));
      const bool one_start = positions && positions->length() == 1;
      // One item is a token: its heads share a table of cosines and sines.
      const size_t heads = rows.count() / (job.batch * job.tokens);
      parallel_for(
          job.batch * job.tokens, row_grain(heads * rows.length()), [&](size_t b, size_t e) {
            RowBuffer buffer;
            for (size_t i = b; i < e; ++i) {
              const size_t row = i / job.tokens, token = i % job.tokens;
              const int start = starts ? starts[one_start ? 0 : row] : *job.kind.offset;
              const auto position = static_cast<float>(start + static_cast<int64_t>(token));
              job.rotate_token(rows, inv_freq, position, row * heads, heads, token, y, buffer);
            }
          });
    });
  }

  Arrays vjp(const Arrays& primals, const Arrays& cotangents, const std::vector<int>& argnums,
             const Arrays& outputs) override {
    if (argnums != std::vector<int>{0})
      return CpuPrimitive::vjp(primals, cotangents, argnums, outputs);
    // The same rotation backwards.
    Arrays in = primals;
    in[0] = cotangents[0];
    in[1] = mx::negative(primals[1]);
    return {mx::array(in[0].shape(), in[0].dtype(),
                      std::make_shared<RopePrimitive>(stream(), kind_), in)};
  }

  const char* name() const override { return "mlxcpp::RoPE"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    return kind_ == static_cast<const RopePrimitive&>(other).kind_;
  }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override { return {in[0].shape()}; }

 private:
  struct Job {
    RopeKind kind;
    const RowKernels& kernels;
    size_t type, item, batch, tokens;

    void rotate_token(const Rows& rows, const float* inv_freq, float position, size_t first_head,
                      size_t heads, size_t token, std::byte* y, RowBuffer& buffer) const {
      constexpr size_t kPiece = 128;  // frequencies whose table is on the stack
      alignas(64) float cosine[kPiece], sine[kPiece];
      const size_t length = rows.length(), dims = kind.dims, half = dims / 2;
      const auto rotate_halves = kernels.rotate_halves[type];
      const auto rotate_pairs = kernels.rotate_pairs[type];
      for (size_t begin = 0; begin < half; begin += kPiece) {
        const size_t n = std::min(kPiece, half - begin);
        kernels.rope_table(inv_freq + begin, position, kind.scale, cosine, sine, n);
        for (size_t h = 0; h < heads; ++h) {
          const size_t row = (first_head + h) * tokens + token;
          const auto* from = static_cast<const std::byte*>(rows.read(row, buffer));
          std::byte* to = y + row * length * item;
          const auto at = [&](auto* p, size_t i) { return p + i * item; };
          if (kind.traditional)
            rotate_pairs(at(from, 2 * begin), cosine, sine, at(to, 2 * begin), n);
          else
            rotate_halves(at(from, begin), at(from, half + begin), cosine, sine, at(to, begin),
                          at(to, half + begin), n);
          if (begin == 0 && dims < length && from != to)
            std::memcpy(at(to, dims), at(from, dims), (length - dims) * item);
        }
      }
    }
  };

  RopeKind kind_;
};

}  // namespace

mx::array rope(const mx::array& x, int dims, bool traditional, const mx::array& inv_freq,
               float scale, const Positions& positions) {
  if (x.ndim() < 3)
    throw Error("rope: expected x of shape [B, ..., L, D], found {}", fmt::join(x.shape(), "x"));
  if (dims <= 0 || dims % 2 != 0 || dims > x.shape(-1))
    throw Error(
        "rope: cannot rotate {} dimensions of {}: an even number from 2 to those that "
        "there are is expected",
        dims, x.shape(-1));
  if (inv_freq.shape() != mx::Shape{dims / 2})
    throw Error("rope: expected {} frequencies for {} dimensions, found shape {}", dims / 2, dims,
                fmt::join(inv_freq.shape(), "x"));
  RopeKind kind{dims, traditional, scale, std::nullopt};
  Arrays in{x, mx::astype(inv_freq, mx::float32)};
  if (const int* offset = std::get_if<int>(&positions)) {
    kind.offset = *offset;
  } else {
    const auto& p = std::get<mx::array>(positions);
    if (p.ndim() > 1 || !mx::issubdtype(p.dtype(), mx::integer) ||
        (p.size() != 1 && p.size() != static_cast<size_t>(x.shape(0))))
      throw Error("rope: expected one whole number as position for each of {} rows, found shape {}",
                  x.shape(0), fmt::join(p.shape(), "x"));
    const auto starts = mx::astype(p, mx::int32);
    in.push_back(p.size() == 1 ? mx::reshape(starts, {}) : starts);
  }
  const auto stream = cpu_stream();
  if (!stream || !float_type(x.dtype()) || x.size() == 0) return plain(kind, in)[0];
  return mx::array(x.shape(), x.dtype(), std::make_shared<RopePrimitive>(*stream, kind),
                   std::move(in));
}

}  // namespace mlxcpp::kernels

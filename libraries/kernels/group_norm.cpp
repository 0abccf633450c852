#include "kernels/group_norm.h"

#include <algorithm>
#include <cmath>

#include <mlx/backend/cpu/encoder.h>

#include "core/error.h"
#include "kernels/conv_kernels.h"
#include "kernels/primitive.h"
#include "kernels/rows.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::kernels {
namespace {

struct GroupNormKind {
  int groups;
  float eps;
  bool silu;

  bool operator==(const GroupNormKind&) const = default;
};

Arrays plain(const GroupNormKind& k, const Arrays& in) {
  const mx::array& x = in[0];
  const int n = x.shape(0), c = x.shape(-1);
  auto y = mx::transpose(mx::reshape(x, {n, -1, k.groups, c / k.groups}), {0, 2, 1, 3});
  const auto shape = y.shape();
  y = mx::fast::layer_norm(mx::reshape(y, {n, k.groups, -1}), {}, {}, k.eps);
  y = mx::reshape(mx::transpose(mx::reshape(y, shape), {0, 2, 1, 3}), x.shape());
  y = y * in[1] + in[2];
  return {k.silu ? y * mx::sigmoid(y) : y};
}

struct Work {
  const ConvKernels& kernels;
  GroupNormKind kind;
  FloatType type;
  const std::byte* x;
  std::byte* y;
  const float *weight, *bias;
  size_t pictures, pixels, channels;
};

constexpr size_t kPiece = 8192;  // numbers whose statistics are taken at once: in the first cache

// Mean and sum of squared differences from it of `count` numbers.
struct Moments {
  double count = 0, mean = 0, squares = 0;

  // Chan, Golub and LeVeque (1979).
  void add(const Moments& o) {
    if (o.count == 0) return;
    const double all = count + o.count, delta = o.mean - mean;
    mean += delta * o.count / all;
    squares += o.squares + delta * delta * count * o.count / all;
    count = all;
  }
};

void run(const Work& w) {
  const auto type = static_cast<size_t>(w.type);
  const size_t item = w.type == FloatType::f32 ? 4 : 2;
  const size_t groups = static_cast<size_t>(w.kind.groups), width = w.channels / groups;
  const size_t piece = std::max<size_t>(1, kPiece / w.channels);
  const size_t pieces = (w.pixels + piece - 1) / piece;
  const auto at = [&](size_t picture, size_t pixel) {
    return (picture * w.pixels + pixel) * w.channels * item;
  };

  std::vector<Moments> moments(w.pictures * pieces * groups);
  parallel_for(w.pictures * pieces, 1, [&](size_t i, size_t) {
    const size_t picture = i / pieces, begin = i % pieces * piece;
    const size_t count = std::min(piece, w.pixels - begin);
    const std::byte* x = w.x + at(picture, begin);
    std::vector<float> sums(w.channels), mean(w.channels);
    w.kernels.channel_sums[type](x, count, w.channels, sums.data());
    Moments* out = moments.data() + i * groups;
    for (size_t g = 0; g < groups; ++g) {
      double sum = 0;
      for (size_t c = g * width; c < (g + 1) * width; ++c) sum += sums[c];
      out[g].count = static_cast<double>(count * width);
      out[g].mean = static_cast<float>(sum / out[g].count);
      std::fill_n(mean.begin() + static_cast<ptrdiff_t>(g * width), width,
                  static_cast<float>(out[g].mean));
    }
    w.kernels.channel_squares[type](x, count, w.channels, mean.data(), sums.data());
    for (size_t g = 0; g < groups; ++g) {
      for (size_t c = g * width; c < (g + 1) * width; ++c) out[g].squares += sums[c];
    }
  });

  std::vector<float> mean(w.pictures * w.channels), scale(w.pictures * w.channels);
  for (size_t picture = 0; picture < w.pictures; ++picture)
    for (size_t g = 0; g < groups; ++g) {
      Moments all;
      for (size_t p = 0; p < pieces; ++p) all.add(moments[(picture * pieces + p) * groups + g]);
      const double root = 1 / std::sqrt(all.squares / all.count + w.kind.eps);
      for (size_t c = g * width; c < (g + 1) * width; ++c) {
        mean[picture * w.channels + c] = static_cast<float>(all.mean);
        scale[picture * w.channels + c] = static_cast<float>(root * w.weight[c]);
      }
    }
  parallel_for(w.pictures * pieces, 1, [&](size_t i, size_t) {
    const size_t picture = i / pieces, begin = i % pieces * piece;
    const size_t offset = at(picture, begin);
    w.kernels.normalise[type](w.x + offset, std::min(piece, w.pixels - begin), w.channels,
                              mean.data() + picture * w.channels,
                              scale.data() + picture * w.channels, w.bias, w.kind.silu,
                              w.y + offset);
  });
}

class GroupNormPrimitive final : public CpuPrimitive {
 public:
  GroupNormPrimitive(mx::Stream s, const GroupNormKind& kind)
      : CpuPrimitive(s, [kind](const Arrays& in) { return plain(kind, in); }), kind_(kind) {}

  void eval_cpu(const Arrays& in, Arrays& out) override {
    const mx::array& x = in[0];
    allocate_or_take(out[0], x);
    const auto channels = static_cast<size_t>(x.shape(-1));
    const auto pictures = static_cast<size_t>(x.shape(0));
    const Work w{conv_kernels(),
                 kind_,
                 *float_type(x.dtype()),
                 x.data<std::byte>(),
                 out[0].data<std::byte>(),
                 in[1].data<float>(),
                 in[2].data<float>(),
                 pictures,
                 x.size() / pictures / channels,
                 channels};
    mx::cpu::get_command_encoder(stream()).dispatch([w] { run(w); });
  }

  const char* name() const override { return "mlxcpp::GroupNorm"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    return kind_ == static_cast<const GroupNormPrimitive&>(other).kind_;
  }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override { return {in[0].shape()}; }

 private:
  GroupNormKind kind_;
};

}  // namespace

mx::array group_norm(const mx::array& x, int groups, const mx::array& weight, const mx::array& bias,
                     float eps, bool silu) {
  if (x.ndim() < 2 || groups < 1 || x.shape(-1) % groups != 0)
    throw Error("group_norm: expected [N, ..., C] with C a multiple of {} groups, found [{}]",
                groups, fmt::join(x.shape(), ", "));
  for (const mx::array* a : {&weight, &bias})
    if (a->shape() != mx::Shape{x.shape(-1)})
      throw Error("group_norm: expected weight and bias [{}], found [{}]", x.shape(-1),
                  fmt::join(a->shape(), ", "));
  const GroupNormKind kind{groups, eps, silu};
  const auto dtype = mx::promote_types(x.dtype(), mx::promote_types(weight.dtype(), bias.dtype()));
  const auto stream = cpu_stream();
  const auto wide = mx::astype(x, dtype);
  if (!stream || !float_type(dtype) || x.size() == 0) return plain(kind, {wide, weight, bias})[0];
  Arrays in{mx::contiguous(wide), mx::contiguous(mx::astype(weight, mx::float32)),
            mx::contiguous(mx::astype(bias, mx::float32))};
  return mx::array(x.shape(), dtype, std::make_shared<GroupNormPrimitive>(*stream, kind),
                   std::move(in));
}

}  // namespace mlxcpp::kernels

#include "kernels/ternary.h"

#include <algorithm>

#include <mlx/backend/cpu/encoder.h>

#include "core/error.h"
#include "kernels/isa.h"
#include "kernels/primitive.h"
#include "kernels/rows.h"
#include "kernels/ternary_kernels.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::kernels {
namespace {

const TernaryKernels& ternary_kernels() {
#if defined(__x86_64__)
  if (isa() >= Isa::avx512) return kTernaryKernelsAvx512;
  if (isa() >= Isa::avx2) return kTernaryKernelsAvx2;
#endif
  return kTernaryKernelsGeneric;
}

// x f32 [..., K], packed uint8 [N/4, K] and scale f32 [1], all contiguous.
class TernaryPrimitive final : public CpuPrimitive {
 public:
  explicit TernaryPrimitive(mx::Stream s) : CpuPrimitive(s, plain) {}

  static Arrays plain(const Arrays& in) {
    const auto w = mx::transpose(unpack_ternary(in[1], in[0].dtype()));
    return {mx::matmul(in[0], w) * mx::astype(in[2], in[0].dtype())};
  }

  void eval_cpu(const Arrays& in, Arrays& out) override {
    out[0].set_data(mx::allocator::malloc(out[0].nbytes()));
    const auto packed_rows = static_cast<size_t>(in[1].shape(0));
    const auto k = static_cast<size_t>(in[1].shape(1));
    const size_t m = in[0].size() / k;
    auto& encoder = mx::cpu::get_command_encoder(stream());
    encoder.dispatch([=, x = in[0].data<float>(), w = in[1].data<uint8_t>(),
                      scale = in[2].data<float>(), y = out[0].data<float>(),
                      multiply = ternary_kernels().multiply] {
      constexpr size_t kRowsInCache = 16;  // of x
      const size_t n = 4 * packed_rows, grain = row_grain(k * std::min(m, kRowsInCache));
      parallel_for(packed_rows, grain, [&](size_t begin, size_t end) {
        for (size_t i = 0; i < m; i += kRowsInCache)
          for (size_t r = begin; r < end; ++r)
            multiply(x + i * k, k, std::min(m - i, kRowsInCache), w + r * k, k, *scale,
                     y + i * n + r, n, packed_rows);
      });
    });
  }

  const char* name() const override { return "mlxcpp::Ternary"; }
  bool is_equivalent(const mx::Primitive&) const override { return true; }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override {
    auto shape = in[0].shape();
    shape.back() = 4 * in[1].shape(0);
    return {shape};
  }
};

}  // namespace

mx::array ternary_matmul(const mx::array& x, const mx::array& packed, const mx::array& scale) {
  if (packed.ndim() != 2 || packed.dtype() != mx::uint8)
    throw Error("ternary_matmul: expected packed weights uint8 [N/4, K], found {} axes",
                packed.ndim());
  if (x.ndim() == 0 || x.shape(-1) != packed.shape(1) || scale.size() != 1)
    throw Error("ternary_matmul: x must be [..., {}] and the scale one number, found {} and {}",
                packed.shape(1), fmt::join(x.shape(), "x"), scale.size());
  const auto stream = cpu_stream();
  if (!stream || !float_type(x.dtype()) || x.size() == 0)
    return TernaryPrimitive::plain({x, packed, scale})[0];
  auto shape = x.shape();
  shape.back() = 4 * packed.shape(0);
  Arrays in{mx::contiguous(mx::astype(x, mx::float32)), mx::contiguous(packed),
            mx::contiguous(mx::astype(mx::reshape(scale, {1}), mx::float32))};
  const mx::array y(std::move(shape), mx::float32, std::make_shared<TernaryPrimitive>(*stream),
                    std::move(in));
  return mx::astype(y, x.dtype());
}

mx::array unpack_ternary(const mx::array& packed, mx::Dtype dtype) {
  std::vector<mx::array> parts;
  for (const int shift : {0, 2, 4, 6})
    parts.push_back(mx::bitwise_and(mx::right_shift(packed, mx::array(shift, mx::uint8)),
                                    mx::array(3, mx::uint8)));
  return mx::astype(mx::concatenate(parts, 0), dtype) - mx::array(1, dtype);
}

}  // namespace mlxcpp::kernels

#include "kernels/ternary.h"

#include <algorithm>

#include <mlx/backend/cpu/encoder.h>

#include "core/error.h"
#include "kernels/floats.h"
#include "kernels/isa.h"
#include "kernels/precision.h"
#include "kernels/primitive.h"
#include "kernels/rows.h"
#include "kernels/ternary_run.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::kernels {

const TernaryKernels& ternary_kernels() {
#if defined(__x86_64__)
  if (isa() >= Isa::avx512) return kTernaryKernelsAvx512;
  if (isa() >= Isa::avx2) return kTernaryKernelsAvx2;
#endif
  return kTernaryKernelsGeneric;
}

int ternary_planes(Precision p) { return p == Precision::exact ? 0 : p == Precision::high ? 2 : 1; }

const uint8_t* TernaryInput::pack(uint8_t* room) {
  const size_t bytes = ternary_packed_bytes(k, planes);
  const auto run = ternary_kernels().pack;
  parallel_for(m, row_grain(k), [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) run(x + i * k, k, planes, room + i * bytes);
  });
  return packed = room;
}

void TernaryInput::multiply(const TernaryMatrix& w, size_t begin, size_t end, float* y,
                            size_t ldy) const {
  const TernaryKernels& kernels = ternary_kernels();
  for (size_t i = 0; i < m; i += kRowsInCache) {
    const size_t n = std::min(kRowsInCache, m - i);
    for (size_t r = begin; r < end; ++r) {
      const uint8_t* codes = w.codes + r * k;
      float* to = y + i * ldy + r;
      if (planes == 0)
        kernels.multiply(x + i * k, k, n, codes, k, w.scale, to, ldy, w.packed_rows);
      else
        kernels.multiply_packed(packed + i * ternary_packed_bytes(k, planes), planes, n, codes, k,
                                w.scale, to, ldy, w.packed_rows);
    }
  }
}

namespace {

// x f32 [..., K], packed uint8 [N/4, K] and scale f32 [1], all contiguous.
class TernaryPrimitive final : public CpuPrimitive {
 public:
  TernaryPrimitive(mx::Stream s, Precision precision)
      : CpuPrimitive(s, plain), precision_(precision) {}

  static Arrays plain(const Arrays& in) {
    const auto w = mx::transpose(unpack_ternary(in[1], in[0].dtype()));
    return {mx::matmul(in[0], w) * mx::astype(in[2], in[0].dtype())};
  }

  void eval_cpu(const Arrays& in, Arrays& out) override {
    out[0].set_data(mx::allocator::malloc(out[0].nbytes()));
    const auto packed_rows = static_cast<size_t>(in[1].shape(0));
    const auto k = static_cast<size_t>(in[1].shape(1));
    TernaryInput x{in[0].data<float>(), in[0].size() / k, k, ternary_planes(precision_)};
    auto& encoder = mx::cpu::get_command_encoder(stream());
    encoder.dispatch([=, codes = in[1].data<uint8_t>(), scale = in[2].data<float>(),
                      y = out[0].data<float>()]() mutable {
      Floats room;
      if (x.planes > 0)
        x.pack(reinterpret_cast<uint8_t*>(
            room.reserve(x.m * ternary_packed_bytes(k, x.planes) / sizeof(float))));
      const TernaryMatrix w{codes, packed_rows, *scale};
      parallel_for(packed_rows, x.grain(), [&](size_t begin, size_t end) {
        x.multiply(w, begin, end, y, 4 * packed_rows);
      });
    });
  }

  const char* name() const override { return "mlxcpp::Ternary"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    return precision_ == static_cast<const TernaryPrimitive&>(other).precision_;
  }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override {
    auto shape = in[0].shape();
    shape.back() = 4 * in[1].shape(0);
    return {shape};
  }

 private:
  Precision precision_;
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
  const mx::array y(std::move(shape), mx::float32,
                    std::make_shared<TernaryPrimitive>(*stream, precision()), std::move(in));
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

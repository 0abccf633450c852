#include "kernels/ternary.h"

#include <algorithm>
#include <atomic>

#include <mlx/backend/cpu/encoder.h>

#include "core/error.h"
#include "kernels/ceil_div.h"
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

// The tables take whole lots of rows; what is left over goes the other way unless it nearly is one.
// From kTableRows on they repay the index.
size_t TernaryInput::rows_for_tables() const {
  constexpr size_t kTableRows = 12;
  const size_t lot = ternary_kernels().table_rows;
  if (lot == 0 || planes == 0 || m < kTableRows || k > kTableColumns) return 0;
  const size_t rest = m % lot;
  return 2 * rest > lot ? m : m - rest;
}

bool TernaryInput::whole() const { return rows_for_tables() > 0; }

bool TernaryInput::multiply_tables(const TernaryMatrix& w, size_t rows, float* y,
                                   size_t ldy) const {
  thread_local Floats index_room;
  const TernaryKernels& kernels = ternary_kernels();
  const size_t distance = w.packed_rows * kIndexRow;
  auto* index = reinterpret_cast<uint16_t*>(
      index_room.fit((k + kIndexColumns - 1) / kIndexColumns * distance / 2));
  std::atomic<bool> fits = true;
  parallel_for(w.packed_rows, row_grain(k), [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r)
      if (!kernels.index(w.codes + r * k, k, index + r * kIndexRow, distance)) fits = false;
  });
  if (!fits) return false;
  // As many rows of weights as possible for a table, but their sums are to stay in the second
  // cache, and all threads are to have work.
  constexpr size_t kMost = 512, kLeast = 64, kLine = 8;
  const size_t lot = kernels.table_rows, lots = ceil_div(rows, lot);
  const size_t wanted = ceil_div(4 * static_cast<size_t>(num_threads()), lots);
  const size_t block =
      ceil_div(std::clamp(ceil_div(w.packed_rows, wanted), kLeast, kMost), kLine) * kLine;
  const size_t blocks = ceil_div(w.packed_rows, block), bytes = ternary_packed_bytes(k, planes);
  parallel_for(lots * blocks, 1, [&](size_t first, size_t last) {
    thread_local Floats sums;
    auto* room = reinterpret_cast<int32_t*>(sums.reserve(4 * block * lot));
    for (size_t i = first; i < last; ++i) {
      const size_t from = i % lots * lot, begin = i / lots * block;
      kernels.multiply_tables(packed + from * bytes, planes, std::min(lot, rows - from), k, index,
                              w.packed_rows, begin, std::min(begin + block, w.packed_rows), w.scale,
                              y + from * ldy, ldy, room);
    }
  });
  return true;
}

void TernaryInput::multiply(const TernaryMatrix& w, float* y, size_t ldy) const {
  size_t done = rows_for_tables();
  if (done > 0 && !multiply_tables(w, done, y, ldy)) done = 0;
  if (done == m) return;
  TernaryInput rest = *this;
  rest.m -= done;
  rest.x += done * k;
  if (planes > 0) rest.packed += done * ternary_packed_bytes(k, planes);
  parallel_for(w.packed_rows, rest.grain(), [&](size_t begin, size_t end) {
    rest.multiply(w, begin, end, y + done * ldy, ldy);
  });
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
      x.multiply({codes, packed_rows, *scale}, y, 4 * packed_rows);
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

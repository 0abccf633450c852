#include "kernels/quant_ops.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <numeric>

#include <mlx/backend/cpu/encoder.h>

#include "core/error.h"
#include "kernels/decoder_step.h"
#include "kernels/isa.h"
#include "kernels/linear.h"
#include "kernels/precision.h"
#include "kernels/primitive.h"
#include "kernels/quant_types.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::kernels::quant {

const Loops& loops() {
#if defined(__x86_64__)
  if (isa() == Isa::avx512) return avx512_loops();
  if (isa() == Isa::avx2) return avx2_loops();
#endif
  return generic_loops();
}

Planes planes_for(const QuantType& type, Precision p) {
  // The values of mxfp8 span 18 bits.
  if (type.mode == QuantMode::mxfp8 || p == Precision::exact) return Planes::real;
  return p == Precision::fast ? Planes::one : Planes::two;
}

// Large enough to be worth handing out, and several for each thread where there is enough work. Of
// sizes up to twice as small the one with which all threads end soonest: 9 chunks keep one of two
// threads busy for 5.
size_t chunk_rows(size_t rows, size_t work_per_row, size_t m) {
  if (rows == 0) return 1;
  // Lines of results are not shared, nor panels of weights left half empty.
  const size_t unit = m > kStepRows && isa() == Isa::avx512 ? 32 : 16;
  const auto parts = [](size_t n, size_t of) { return (n + of - 1) / of; };
  const size_t threads = num_threads();
  const size_t per_thread = rows * work_per_row / threads >> 16;
  const size_t largest = parts(rows, threads * std::clamp<size_t>(per_thread, 1, 8) * unit) * unit;
  size_t best = largest, best_end = parts(parts(rows, largest), threads) * largest;
  for (size_t size = largest - unit; size > 0 && 2 * size >= largest; size -= unit) {
    const size_t end = parts(parts(rows, size), threads) * size;
    if (end < best_end) best = size, best_end = end;
  }
  return best;
}

mx::array dense(const mx::array& a, mx::Stream s) {
  if (a.flags().row_contiguous) return a;
  auto& encoder = mx::cpu::get_command_encoder(s);
  mx::array copy(a.shape(), a.dtype(), nullptr, {});
  copy.set_data(mx::allocator::malloc(copy.nbytes()));
  encoder.add_temporary(copy);
  encoder.dispatch([from = a.data<uint8_t>(), to = copy.data<uint8_t>(), item = a.itemsize(),
                    shape = a.shape(), strides = a.strides(), n = a.size()] {
    const size_t inner = shape.back();
    parallel_for(n / inner, 64, [&](size_t begin, size_t end) {
      for (size_t row = begin; row < end; ++row) {
        int64_t offset = 0;
        size_t rest = row;
        for (int axis = static_cast<int>(shape.size()) - 2; axis >= 0; --axis) {
          offset += static_cast<int64_t>(rest % shape[axis]) * strides[axis];
          rest /= shape[axis];
        }
        for (size_t i = 0; i < inner; ++i)
          std::memcpy(to + (row * inner + i) * item,
                      from + (offset + static_cast<int64_t>(i) * strides.back()) * item, item);
      }
    });
  });
  return copy;
}

namespace {

Number number_of(mx::Dtype dtype) {
  if (dtype == mx::float16) return Number::f16;
  return dtype == mx::bfloat16 ? Number::bf16 : Number::f32;
}

size_t size_of(Number n) { return n == Number::f32 ? 4 : 2; }

// Memory of this thread, aligned to 64; valid until the next call.
class Scratch {
 public:
  uint8_t* get(size_t bytes) {
    if (size_ < bytes) {
      free();
      memory_ = static_cast<uint8_t*>(::operator new(bytes, std::align_val_t(64)));
      size_ = bytes;
    }
    return memory_;
  }
  // What is larger than a few operations of a model need is not kept.
  void trim() {
    if (size_ > kKeep) free();
  }

  Scratch() = default;
  ~Scratch() { free(); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

 private:
  static constexpr size_t kKeep = 8 << 20;

  void free() {
    ::operator delete(memory_, std::align_val_t(64));
    memory_ = nullptr;
    size_ = 0;
  }

  uint8_t* memory_ = nullptr;
  size_t size_ = 0;
};

thread_local Scratch chunk_scratch;   // of a chunk of a parallel loop
thread_local Scratch packed_scratch;  // packed activations, held by the stream's thread

// A matrix, or the first of a stack with the distance to the next.
struct Stack {
  Matrix first;
  size_t rows;
  size_t data_step = 0, scale_step = 0;

  Matrix at(size_t i) const {
    Matrix m = first;
    m.data += i * data_step;
    if (m.scales != nullptr) m.scales += i * scale_step;
    if (m.biases != nullptr) m.biases += i * scale_step;
    return m;
  }
};

// inputs[from...]: weight, scales, biases.
Stack view(const QuantType& type, const Arrays& inputs, size_t from, mx::Stream stream) {
  const auto get = [&](size_t i) { return dense(inputs[from + i], stream); };
  const size_t parts = inputs.size() - from;
  const auto maybe = [&](size_t i) { return i < parts ? std::optional(get(i)) : std::nullopt; };
  const QuantizedMatrix w{type, get(0), maybe(1), maybe(2)};
  Stack s;
  s.rows = w.rows();
  s.first = matrix_of(w);
  s.data_step = s.rows * s.first.row_bytes;
  if (w.scales) s.scale_step = s.rows * w.scales->shape(-1) * w.scales->itemsize();
  return s;
}

constexpr size_t align_up(size_t n) { return (n + 63) / 64 * 64; }

// Activations [m, cols] and results [m, rows] of a product.
struct Product {
  const Loops* loops;
  Planes planes;
  const uint8_t* x;
  uint8_t* y;
  Number number;  // of x and y
  size_t m;

  size_t packed_bytes(const Matrix& w) const { return loops->packed_bytes(w, planes); }

  // Packs row order[i] of x (or row i) as row i.
  void pack(const Matrix& w, const uint32_t* order, uint8_t* packed) const {
    const size_t stride = packed_bytes(w);
    const size_t x_bytes = w.cols * size_of(number);
    const size_t grain = std::max<size_t>(1, 8192 / w.cols);
    parallel_for(m, grain, [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i)
        loops->pack(w, planes, x + (order != nullptr ? order[i] : i) * x_bytes, number,
                    packed + i * stride);
    });
  }

  // Weight rows [begin, end) times packed rows [first, last), which are rows order[i] (or i) of y,
  // whose rows have ldy elements.
  void multiply(const Matrix& w, const uint8_t* packed, size_t first, size_t last,
                const uint32_t* order, size_t begin, size_t end, size_t ldy) const {
    const size_t n = last - first, scratch_bytes = loops->scratch_bytes(w, planes, n);
    packed += first * packed_bytes(w);
    if (number == Number::f32 && order == nullptr) {
      loops->multiply(w, planes, packed, n, begin, end,
                      reinterpret_cast<float*>(y) + first * ldy + begin, ldy,
                      chunk_scratch.get(scratch_bytes));
      return;
    }
    // By way of sums in f32, of so few weight rows that they stay in the cache.
    const size_t block = std::clamp<size_t>(32768 / n / 32 * 32, 32, end - begin + 31);
    uint8_t* scratch = chunk_scratch.get(align_up(scratch_bytes) + n * block * sizeof(float));
    auto* sums = reinterpret_cast<float*>(scratch + align_up(scratch_bytes));
    for (size_t from = begin; from < end; from += block) {
      const size_t columns = std::min(block, end - from);
      loops->multiply(w, planes, packed, n, from, from + columns, sums, columns, scratch);
      for (size_t i = 0; i < n; ++i) {
        const size_t row = order != nullptr ? order[first + i] : first + i;
        loops->convert(sums + i * columns, columns, number,
                       y + (row * ldy + from) * size_of(number));
      }
    }
  }
};

Product product(const Stack& w, Precision precision, const QuantType& type, const mx::array& x,
                mx::array& y) {
  return {.loops = &loops(),
          .planes = planes_for(type, precision),
          .x = x.data<uint8_t>(),
          .y = y.data<uint8_t>(),
          .number = number_of(x.dtype()),
          .m = x.size() / w.first.cols};
}

// Gradients and jvp only with respect to what is asked for, since integers have none.
class QuantPrimitive : public CpuPrimitive {
 public:
  QuantPrimitive(mx::Stream s, const QuantType& type, Fallback f)
      : CpuPrimitive(s, std::move(f)), type_(type) {}

  Arrays vjp(const Arrays& primals, const Arrays& cotangents, const std::vector<int>& argnums,
             const Arrays&) override {
    return mx::vjp(only(primals, argnums), pick(primals, argnums), cotangents).second;
  }
  Arrays jvp(const Arrays& primals, const Arrays& tangents,
             const std::vector<int>& argnums) override {
    return mx::jvp(only(primals, argnums), pick(primals, argnums), tangents).second;
  }

 protected:
  QuantType type_;

 private:
  // The fallback as a function of some inputs.
  Fallback only(const Arrays& primals, const std::vector<int>& argnums) {
    for (const int i : argnums)
      if (!mx::issubdtype(primals[i].dtype(), mx::floating))
        throw Error("{}: no gradient with respect to quantised integers (input {})", name(), i);
    return [f = fallback_, primals, argnums](const Arrays& some) {
      Arrays all = primals;
      for (size_t j = 0; j < argnums.size(); ++j) all[argnums[j]] = some[j];
      return f(all);
    };
  }
  static Arrays pick(const Arrays& primals, const std::vector<int>& argnums) {
    Arrays out;
    for (const int i : argnums) out.push_back(primals[i]);
    return out;
  }
};

class ProductPrimitive : public QuantPrimitive {
 public:
  ProductPrimitive(mx::Stream s, const QuantType& type, Precision precision, Fallback f)
      : QuantPrimitive(s, type, std::move(f)), precision_(precision) {}

  bool is_equivalent(const mx::Primitive& other) const override {
    const auto& o = static_cast<const ProductPrimitive&>(other);
    return type_ == o.type_ && precision_ == o.precision_;
  }

 protected:
  Precision precision_;
};

// The weight as floats for a fallback: through MLX's own ops where its parts are traced.
mx::array float_weight(const QuantType& type, const Arrays& in, size_t from, mx::Dtype dtype,
                       mx::Stream s) {
  const size_t parts = in.size() - from;
  const auto part = [&](size_t i) {
    return i < parts ? std::optional(in[from + i]) : std::nullopt;
  };
  const bool traced =
      std::any_of(in.begin() + from, in.end(), [](const mx::array& a) { return a.is_tracer(); });
  if (traced && !type.is_gguf())
    return mx::dequantize(in[from], in[from + 1], part(2), type.group_size, type.bits,
                          std::string(name(type.mode)), std::nullopt, dtype);
  return dequantize_op({type, in[from], part(1), part(2)}, dtype, s);
}

class QuantizedMatmul final : public ProductPrimitive {
 public:
  using ProductPrimitive::ProductPrimitive;

  void eval_cpu(const Arrays& in, Arrays& out) override {
    out[0].set_data(mx::allocator::malloc(out[0].nbytes()));
    if (out[0].size() == 0) return;
    auto& encoder = mx::cpu::get_command_encoder(stream());
    const mx::array x = dense(in[0], stream());
    const Stack w = view(type_, in, 1, stream());
    const Product p = product(w, precision_, type_, x, out[0]);
    encoder.dispatch([w, p] {
      uint8_t* packed = packed_scratch.get(p.m * p.packed_bytes(w.first));
      p.pack(w.first, nullptr, packed);
      parallel_for(w.rows, chunk_rows(w.rows, w.first.cols * p.m, p.m),
                   [&](size_t begin, size_t end) {
                     p.multiply(w.first, packed, 0, p.m, nullptr, begin, end, w.rows);
                   });
      packed_scratch.trim();
    });
  }
  std::pair<Arrays, std::vector<int>> vmap(const Arrays& in,
                                           const std::vector<int>& axes) override {
    // Rows of x are independent of each other, so a mapped axis is just one more.
    if (axes[0] >= 0 && std::all_of(axes.begin() + 1, axes.end(), [](int a) { return a < 0; })) {
      Arrays moved = in;
      moved[0] = mx::moveaxis(in[0], axes[0], 0);
      return {{mx::array(output_shapes(moved)[0], in[0].dtype(),
                         std::make_shared<QuantizedMatmul>(stream(), type_, precision_, fallback_),
                         moved)},
              {0}};
    }
    return {mx::vmap(fallback_, axes)(in), {0}};
  }
  const char* name() const override { return "mlxcpp::QuantizedMatmul"; }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override {
    mx::Shape shape = in[0].shape();
    shape.back() = in[1].shape(-2);
    return {shape};
  }
};

// inputs: x, experts, weight, scales, biases
class GatherQuantizedMatmul final : public ProductPrimitive {
 public:
  using ProductPrimitive::ProductPrimitive;

  void eval_cpu(const Arrays& in, Arrays& out) override {
    out[0].set_data(mx::allocator::malloc(out[0].nbytes()));
    if (out[0].size() == 0) return;
    auto& encoder = mx::cpu::get_command_encoder(stream());
    const mx::array x = dense(in[0], stream()), experts = dense(in[1], stream());
    const Stack w = view(type_, in, 2, stream());
    const Product p = product(w, precision_, type_, x, out[0]);
    encoder.dispatch([w, p, ids = experts.data<uint32_t>(),
                      count = static_cast<uint32_t>(in[2].shape(0))] { run(w, p, ids, count); });
  }
  const char* name() const override { return "mlxcpp::GatherQuantizedMatmul"; }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override {
    return {{in[0].shape(0), in[2].shape(-2)}};
  }

 private:
  static void run(const Stack& w, const Product& p, const uint32_t* ids, uint32_t count) {
    for (size_t i = 0; i < p.m; ++i)
      if (ids[i] >= count)
        throw Error("gather_quantized_matmul: expert {} of row {} is out of range; there are {}",
                    ids[i], i, count);
    // Rows of one expert together, so that each expert's weights are read once.
    std::vector<uint32_t> order(p.m);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](uint32_t a, uint32_t b) { return ids[a] < ids[b]; });
    uint8_t* packed = packed_scratch.get(p.m * p.packed_bytes(w.first));
    p.pack(w.first, order.data(), packed);
    struct Segment {
      size_t first, last;
    };
    std::vector<Segment> segments;
    for (size_t i = 0; i < p.m; ++i) {
      if (i == 0 || ids[order[i]] != ids[order[i - 1]]) segments.push_back({i, i});
      segments.back().last = i + 1;
    }
    const size_t chunk = chunk_rows(w.rows, w.first.cols * p.m, p.m);
    const size_t chunks = (w.rows - 1) / chunk + 1;
    parallel_for(segments.size() * chunks, 1, [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) {
        const Segment& s = segments[i / chunks];
        const size_t from = i % chunks * chunk;
        p.multiply(w.at(ids[order[s.first]]), packed, s.first, s.last, order.data(), from,
                   std::min(from + chunk, w.rows), w.rows);
      }
    });
    packed_scratch.trim();
  }
};

// The type in which MLX rounds while it dequantises.
Number arithmetic_of(const QuantType& type, Number scales, Number out) {
  if (type.is_gguf()) return Number::f32;
  return type.mode == QuantMode::affine ? scales : out;
}

// inputs: weight, scales, biases; before them ids if only some rows are wanted.
class DequantizeRows final : public QuantPrimitive {
 public:
  DequantizeRows(mx::Stream s, const QuantType& type, bool chosen, Fallback f)
      : QuantPrimitive(s, type, std::move(f)), chosen_(chosen) {}

  void eval_cpu(const Arrays& in, Arrays& out) override {
    out[0].set_data(mx::allocator::malloc(out[0].nbytes()));
    if (out[0].size() == 0) return;
    auto& encoder = mx::cpu::get_command_encoder(stream());
    const Stack w = view(type_, in, chosen_ ? 1 : 0, stream());
    const Number number = number_of(out[0].dtype());
    const int32_t* ids = chosen_ ? dense(in[0], stream()).data<int32_t>() : nullptr;
    encoder.dispatch([w, ids, number, y = out[0].data<uint8_t>(), loops = &loops(),
                      arithmetic = arithmetic_of(type_, w.first.scale_number, number),
                      n = out[0].size() / w.first.cols] {
      if (ids != nullptr)
        for (size_t i = 0; i < n; ++i)
          if (ids[i] < 0 || static_cast<size_t>(ids[i]) >= w.rows)
            throw Error("quantized_rows: row {} is out of range; there are {}", ids[i], w.rows);
      const size_t k = w.first.cols, grain = std::max<size_t>(1, 4096 / k);
      parallel_for(n, grain, [&](size_t begin, size_t end) {
        auto* row = reinterpret_cast<float*>(chunk_scratch.get(k * sizeof(float)));
        for (size_t i = begin; i < end; ++i) {
          uint8_t* to = y + i * k * size_of(number);
          float* values = number == Number::f32 ? reinterpret_cast<float*>(to) : row;
          dequantize_row(w.first, ids != nullptr ? ids[i] : i, arithmetic, values);
          if (number != Number::f32) loops->convert(values, k, number, to);
        }
      });
    });
  }
  const char* name() const override { return "mlxcpp::DequantizeRows"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    const auto& o = static_cast<const DequantizeRows&>(other);
    return type_ == o.type_ && chosen_ == o.chosen_;
  }

 private:
  bool chosen_;
};

Arrays parts_of(const QuantizedMatrix& w, Arrays before) {
  before.push_back(w.weight);
  if (w.scales) before.push_back(*w.scales);
  if (w.biases) before.push_back(*w.biases);
  return before;
}

}  // namespace

Matrix matrix_of(const QuantizedMatrix& w) {
  Matrix m{.mode = w.type.mode,
           .bits = w.type.bits,
           .group_size = w.type.group_size,
           .cols = w.cols(),
           .data = w.weight.data<uint8_t>(),
           .row_bytes = w.weight.shape(-1) * w.weight.itemsize()};
  if (w.scales) {
    m.scales = w.scales->data<uint8_t>();
    m.scale_number = number_of(w.scales->dtype());
  }
  if (w.biases) m.biases = w.biases->data<uint8_t>();
  return m;
}

mx::array matmul_op(const mx::array& x, const QuantizedMatrix& w, mx::Stream s) {
  mx::Shape shape = x.shape();
  shape.back() = w.rows();
  Fallback fallback = [type = w.type, s](const Arrays& in) {
    return Arrays{linear(in[0], float_weight(type, in, 1, in[0].dtype(), s))};
  };
  return mx::array(std::move(shape), x.dtype(),
                   std::make_shared<QuantizedMatmul>(s, w.type, precision(), std::move(fallback)),
                   parts_of(w, {x}));
}

mx::array gather_matmul_op(const mx::array& x, const QuantizedMatrix& w, const mx::array& experts,
                           mx::Stream s) {
  Fallback fallback = [type = w.type, s](const Arrays& in) {
    const mx::array weight = float_weight(type, in, 2, in[0].dtype(), s);
    const mx::array y = mx::gather_mm(mx::expand_dims(in[0], 1), mx::swapaxes(weight, 1, 2),
                                      std::nullopt, in[1], false, s);
    return Arrays{mx::squeeze(y, 1)};
  };
  return mx::array(
      {x.shape(0), w.rows()}, x.dtype(),
      std::make_shared<GatherQuantizedMatmul>(s, w.type, precision(), std::move(fallback)),
      parts_of(w, {x, experts}));
}

mx::array rows_op(const QuantizedMatrix& w, const mx::array& ids, mx::Dtype dtype, mx::Stream s) {
  mx::Shape shape = ids.shape();
  shape.push_back(w.cols());
  Fallback fallback = [type = w.type, dtype, s](const Arrays& in) {
    return Arrays{mx::take(float_weight(type, in, 1, dtype, s), in[0], 0)};
  };
  return mx::array(std::move(shape), dtype,
                   std::make_shared<DequantizeRows>(s, w.type, true, std::move(fallback)),
                   parts_of(w, {ids}));
}

mx::array dequantize_op(const QuantizedMatrix& w, mx::Dtype dtype, mx::Stream s) {
  mx::Shape shape = w.weight.shape();
  shape.back() = w.cols();
  Fallback fallback = [type = w.type, dtype, s](const Arrays& in) {
    return Arrays{float_weight(type, in, 0, dtype, s)};
  };
  return mx::array(std::move(shape), dtype,
                   std::make_shared<DequantizeRows>(s, w.type, false, std::move(fallback)),
                   parts_of(w, {}));
}

}  // namespace mlxcpp::kernels::quant

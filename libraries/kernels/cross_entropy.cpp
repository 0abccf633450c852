#include "kernels/cross_entropy.h"

#include <algorithm>

#include <mlx/backend/cpu/encoder.h>

#include "core/error.h"
#include "kernels/ceil_div.h"
#include "kernels/floats.h"
#include "kernels/linear.h"
#include "kernels/primitive.h"
#include "kernels/product_run.h"
#include "kernels/row_kernels.h"
#include "kernels/row_total.h"
#include "kernels/rows.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::kernels {
namespace {

// The value of element i of an array of one float type.
float float_at(const Rows& rows, size_t row, size_t i, FloatType type, RowBuffer& buffer) {
  float value;
  to_f32(rows.read(row, i, 1, buffer), type, &value, 1);
  return value;
}

void put_float(void* row, size_t i, FloatType type, float value) {
  if (type == FloatType::f32)
    static_cast<float*>(row)[i] = value;
  else if (type == FloatType::bf16)
    static_cast<mx::bfloat16_t*>(row)[i] = mx::bfloat16_t(value);
  else
    static_cast<mx::float16_t*>(row)[i] = mx::float16_t(value);
}

// Target of each row, checked.
const int32_t* targets_of(const Rows& rows, size_t classes, std::vector<int32_t>& room) {
  room.resize(rows.count() * rows.length());
  RowBuffer buffer;
  for (size_t r = 0; r < rows.count(); ++r) {
    const auto* from = static_cast<const int32_t*>(rows.read(r, buffer));
    std::copy_n(from, rows.length(), room.data() + r * rows.length());
  }
  for (const int32_t t : room)
    if (t < 0 || static_cast<size_t>(t) >= classes)
      throw Error("cross_entropy: target {} is out of range; there are {} classes", t, classes);
  return room.data();
}

// logits [T, V], targets int32 [T], stats f32 [T, 2] (largest, sum of exp(x - largest)), cotangent
// [T]
// -> the gradient of the logits.
class CrossEntropyGrad final : public CpuPrimitive {
 public:
  explicit CrossEntropyGrad(mx::Stream s) : CpuPrimitive(s, plain) {}

  static Arrays plain(const Arrays& in) {
    const auto x = mx::astype(in[0], mx::float32);
    const auto p = mx::softmax(x, -1, true);
    const auto hit =
        mx::astype(mx::equal(mx::arange(in[0].shape(-1)), mx::expand_dims(in[1], -1)), mx::float32);
    return {
        mx::astype((p - hit) * mx::expand_dims(mx::astype(in[3], mx::float32), -1), in[0].dtype())};
  }

  void eval_cpu(const Arrays& in, Arrays& out) override {
    const Rows logits(in[0]), targets(in[1]), stats(in[2]), cotangent(in[3]);
    const auto type = *float_type(in[0].dtype());
    const auto dy_type = *float_type(in[3].dtype());
    allocate_or_take(out[0], in[0]);
    auto& encoder = mx::cpu::get_command_encoder(stream());
    encoder.dispatch(
        [=, &kernels = row_kernels(), y = out[0].data<std::byte>(), item = in[0].itemsize()] {
          const size_t n = logits.length();
          std::vector<int32_t> room;
          const int32_t* target = targets_of(targets, n, room);
          parallel_for(logits.count(), row_grain(n), [&](size_t begin, size_t end) {
            RowBuffer buffer, stats_buffer, dy_buffer;
            for (size_t r = begin; r < end; ++r) {
              const auto* s = static_cast<const float*>(stats.read(r, stats_buffer));
              const float largest = s[0], sum = s[1];
              const float dy = float_at(cotangent, 0, r, dy_type, dy_buffer);
              // Read before the gradient takes its place.
              const float x = float_at(logits, r, target[r], type, buffer);
              auto* row = y + r * n * item;
              kernels.exp_shifted[static_cast<size_t>(type)](logits.read(r, buffer), row, n,
                                                             largest, dy / sum);
              put_float(row, target[r], type, (std::exp(x - largest) / sum - 1) * dy);
            }
          });
        });
  }

  const char* name() const override { return "mlxcpp::CrossEntropyGrad"; }
  bool is_equivalent(const mx::Primitive&) const override { return true; }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override { return {in[0].shape()}; }
};

// Of a row of n logits; read(i, m) gives m of them from i on.
template <class Read>
RowTotal total_of(size_t n, FloatType type, Read read) {
  RowTotal total;
  for (size_t i = 0; i < n; i += kRowPiece) {
    const size_t m = std::min(kRowPiece, n - i);
    float largest, sum;
    row_kernels().max_and_sum_exp[static_cast<size_t>(type)](read(i, m), m, &largest, &sum);
    total.add(largest, sum);
  }
  return total;
}

// logits [T, V], targets int32 [T] -> loss [T], stats f32 [T, 2].
class CrossEntropy final : public CpuPrimitive {
 public:
  explicit CrossEntropy(mx::Stream s) : CpuPrimitive(s, plain) {}

  static Arrays plain(const Arrays& in) {
    const auto x = mx::astype(in[0], mx::float32);
    const auto largest = mx::stop_gradient(mx::max(x, -1, true));
    const auto total = mx::sum(mx::exp(x - largest), -1);
    const auto score =
        mx::squeeze(mx::take_along_axis(x - largest, mx::expand_dims(in[1], -1), -1), -1);
    return {mx::astype(mx::log(total) - score, in[0].dtype()),
            mx::stack({mx::squeeze(largest, -1), total}, -1)};
  }

  void eval_cpu(const Arrays& in, Arrays& out) override {
    const Rows logits(in[0]), targets(in[1]);
    const auto type = *float_type(in[0].dtype());
    for (auto& o : out) o.set_data(mx::allocator::malloc(o.nbytes()));
    auto& encoder = mx::cpu::get_command_encoder(stream());
    encoder.dispatch([=, loss = out[0].data<std::byte>(), stats = out[1].data<float>()] {
      const size_t n = logits.length();
      std::vector<int32_t> room;
      const int32_t* target = targets_of(targets, n, room);
      parallel_for(logits.count(), row_grain(n), [&](size_t begin, size_t end) {
        RowBuffer buffer;
        for (size_t r = begin; r < end; ++r) {
          const RowTotal total =
              total_of(n, type, [&](size_t i, size_t m) { return logits.read(r, i, m, buffer); });
          const auto log_sum = static_cast<float>(std::log(total.sum));
          stats[2 * r] = total.largest;
          stats[2 * r + 1] = static_cast<float>(total.sum);
          put_float(loss, r, type,
                    log_sum - (float_at(logits, r, target[r], type, buffer) - total.largest));
        }
      });
    });
  }

  Arrays vjp(const Arrays& primals, const Arrays& cotangents, const std::vector<int>& argnums,
             const Arrays& outputs) override {
    Arrays grads;
    for (const int i : argnums) {
      if (i != 0) throw Error("cross_entropy: no gradient with respect to the targets");
      Arrays in{primals[0], primals[1], outputs[1], cotangents[0]};
      grads.push_back(mx::array(primals[0].shape(), primals[0].dtype(),
                                std::make_shared<CrossEntropyGrad>(stream()), std::move(in)));
    }
    return grads;
  }

  const char* name() const override { return "mlxcpp::CrossEntropy"; }
  bool is_equivalent(const mx::Primitive&) const override { return true; }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override {
    return {in[1].shape(), {in[1].shape(0), 2}};
  }
};

// rows [T, K] times a number for each row [T].
class ScaledRows final : public CpuPrimitive {
 public:
  explicit ScaledRows(mx::Stream s)
      : CpuPrimitive(s, [](const Arrays&) -> Arrays {
          throw Error("last_cross_entropy: there is no gradient of its gradient");
        }) {}

  void eval_cpu(const Arrays& in, Arrays& out) override {
    const Rows rows(in[0]), factors(in[1]);
    allocate_or_take(out[0], in[0]);
    mx::cpu::get_command_encoder(stream()).dispatch([=, y = out[0].data<float>()] {
      const size_t n = rows.length();
      parallel_for(rows.count(), row_grain(n), [&](size_t begin, size_t end) {
        RowBuffer buffer, factor_buffer;
        for (size_t r = begin; r < end; ++r) {
          const auto* x = static_cast<const float*>(rows.read(r, buffer));
          const float f = *static_cast<const float*>(factors.read(0, r, 1, factor_buffer));
          for (size_t i = 0; i < n; ++i) y[r * n + i] = x[i] * f;
        }
      });
    });
  }
  const char* name() const override { return "mlxcpp::ScaledRows"; }
  bool is_equivalent(const mx::Primitive&) const override { return true; }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override { return {in[0].shape()}; }
};

// x f32 [T, K], weight [V, K], targets int32 [T] -> loss [T], the gradient of each loss [T, K].
class LastCrossEntropy final : public CpuPrimitive {
 public:
  explicit LastCrossEntropy(mx::Stream s) : CpuPrimitive(s, plain) {}

  static Arrays plain(const Arrays& in) {
    const auto weight = mx::astype(in[1], mx::float32);
    const auto logits = mx::matmul(in[0], mx::transpose(weight));
    const Arrays loss = CrossEntropy::plain({logits, in[2]});
    const auto ones = mx::ones_like(loss[0]);
    return {loss[0],
            mx::matmul(CrossEntropyGrad::plain({logits, in[2], loss[1], ones})[0], weight)};
  }

  void eval_cpu(const Arrays& in, Arrays& out) override {
    for (auto& o : out) o.set_data(mx::allocator::malloc(o.nbytes()));
    const MatrixView weight{in[1].data<std::byte>(), *float_type(in[1].dtype()), in[1].strides(0),
                            in[1].strides(1)};
    mx::cpu::get_command_encoder(stream()).dispatch([=, x = Rows(in[0]), targets = Rows(in[2]),
                                                     loss = out[0].data<float>(),
                                                     dx = out[1].data<float>(),
                                                     n = static_cast<size_t>(in[1].shape(0))] {
      std::vector<int32_t> room;
      const int32_t* target = targets_of(targets, n, room);
      const size_t count = x.count(), k = x.length();
      const size_t most = std::min(count, std::max(kLogits / n, kFewestRows));
      const size_t blocks = ceil_div(count, most);
      // Rows of logits at multiples of a page would compete for the same lines of the cache.
      const size_t ld = n + 16;
      const Floats logits(ceil_div(count, blocks) * ld), rows(most * k);
      for (size_t b = 0; b < blocks; ++b) {
        const size_t first = b * count / blocks, m = (b + 1) * count / blocks - first;
        RowBuffer buffer;
        for (size_t r = 0; r < m; ++r)
          std::copy_n(static_cast<const float*>(x.read(first + r, buffer)), k, rows.data() + r * k);
        sum_of_products_run({{dense(rows.data(), k), weight, k}}, nullptr, logits.data(),
                            FloatType::f32, m, n, ld);
        parallel_for(m, 1, [&](size_t r, size_t) {
          loss[first + r] = differentiate(logits.data() + r * ld, n, target[first + r]);
        });
        sum_of_products_run({{dense(logits.data(), ld), transposed(weight), n}}, nullptr,
                            dx + first * k, FloatType::f32, m, k);
      }
    });
  }

  Arrays vjp(const Arrays&, const Arrays& cotangents, const std::vector<int>& argnums,
             const Arrays& outputs) override {
    if (argnums != std::vector<int>{0})
      throw Error("last_cross_entropy: there is a gradient with respect to x alone");
    return {mx::array(outputs[1].shape(), mx::float32, std::make_shared<ScaledRows>(stream()),
                      {outputs[1], cotangents[0]})};
  }

  const char* name() const override { return "mlxcpp::LastCrossEntropy"; }
  bool is_equivalent(const mx::Primitive&) const override { return true; }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override {
    return {in[2].shape(), in[0].shape()};
  }

 private:
  static constexpr size_t kLogits = size_t{12} << 20;  // in memory at once: 48 MiB
  static constexpr size_t kFewestRows = 64;            // even so

  // The loss of a row of logits, which become its gradient.
  static float differentiate(float* logits, size_t n, int32_t target) {
    const RowTotal total =
        total_of(n, FloatType::f32, [&](size_t i, size_t) { return logits + i; });
    const auto sum = static_cast<float>(total.sum);
    const float shifted = logits[target] - total.largest;
    row_kernels().exp_shifted[0](logits, logits, n, total.largest, 1 / sum);
    logits[target] = std::exp(shifted) / sum - 1;
    return static_cast<float>(std::log(total.sum)) - shifted;
  }
};

}  // namespace

mx::array last_cross_entropy(const mx::array& logits, const mx::array& targets) {
  const auto parts = linear_parts(logits);
  const auto stream = cpu_stream();
  const bool fits = parts && stream && logits.ndim() == 2 && logits.dtype() == mx::float32 &&
                    parts->x.dtype() == mx::float32 && !parts->weight.is_tracer() &&
                    targets.shape() == mx::Shape{logits.shape(0)} &&
                    mx::issubdtype(targets.dtype(), mx::integer);
  if (!fits) return cross_entropy(logits, targets);
  const int rows = logits.shape(0);
  return mx::array::make_arrays({{rows}, parts->x.shape()}, {mx::float32, mx::float32},
                                std::make_shared<LastCrossEntropy>(*stream),
                                {parts->x, parts->weight, mx::astype(targets, mx::int32)})[0];
}

mx::array cross_entropy(const mx::array& logits, const mx::array& targets) {
  auto expected = logits.shape();
  if (!expected.empty()) expected.pop_back();
  if (logits.ndim() == 0 || targets.shape() != expected ||
      !mx::issubdtype(targets.dtype(), mx::integer))
    throw Error("cross_entropy: logits [{}] need whole numbers [{}] as targets, found [{}]",
                fmt::join(logits.shape(), ", "), fmt::join(expected, ", "),
                fmt::join(targets.shape(), ", "));
  const int classes = logits.shape(-1);
  Arrays in{mx::reshape(logits, {-1, classes}), mx::reshape(mx::astype(targets, mx::int32), {-1})};
  const auto stream = cpu_stream();
  if (!stream || !float_type(logits.dtype()) || logits.size() == 0)
    return mx::reshape(CrossEntropy::plain(in)[0], expected);
  const int rows = in[1].shape(0);
  const auto out = mx::array::make_arrays({{rows}, {rows, 2}}, {logits.dtype(), mx::float32},
                                          std::make_shared<CrossEntropy>(*stream), in);
  return mx::reshape(out[0], expected);
}

}  // namespace mlxcpp::kernels

#include "kernels/linear.h"

#include <algorithm>
#include <cstring>

#include <mlx/backend/cpu/encoder.h>

#include "core/error.h"
#include "kernels/matmul_run.h"
#include "kernels/primitive.h"
#include "kernels/rows.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::kernels {
namespace {

std::string text(const mx::Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

// The last two axes of an evaluated array.
MatrixView matrix(const mx::array& a) {
  return {a.data<std::byte>(), *float_type(a.dtype()), a.strides(-2), a.strides(-1)};
}

MatrixView transposed(MatrixView v) {
  std::swap(v.row_stride, v.column_stride);
  return v;
}

mx::array flat(const mx::array& x) { return mx::reshape(x, {-1, x.shape(-1)}); }

// x, weight, and bias or not.
class LinearPrimitive final : public CpuPrimitive {
 public:
  explicit LinearPrimitive(mx::Stream s) : CpuPrimitive(s, plain) {}

  static Arrays plain(const Arrays& in) {
    const auto y = mx::matmul(in[0], mx::transpose(in[1]));
    return {in.size() > 2 ? y + in[2] : y};
  }

  void eval_cpu(const Arrays& in, Arrays& out) override {
    out[0].set_data(mx::allocator::malloc(out[0].nbytes()));
    const mx::array &x = in[0], &weight = in[1];
    const Rows rows(x);
    const FloatType x_type = *float_type(x.dtype());
    const bool has_bias = in.size() > 2;
    const Rows bias(in.back());
    const FloatType bias_type = *float_type(in.back().dtype());
    auto& encoder = mx::cpu::get_command_encoder(stream());
    encoder.dispatch([=, w = matrix(weight), y = out[0].data<std::byte>(), item = x.itemsize(),
                      y_type = *float_type(out[0].dtype()),
                      n = static_cast<size_t>(weight.shape(0))] {
      const size_t m = rows.count(), k = rows.length();
      MatrixView a{nullptr, x_type, 0, 1};
      std::vector<std::byte> copy;
      if (const auto layout = rows.regular()) {
        a.data = layout->data;
        a.row_stride = layout->row_stride;
        a.column_stride = layout->step;
      } else {
        copy.resize(m * k * item);
        RowBuffer buffer;
        for (size_t r = 0; r < m; ++r)
          std::memcpy(copy.data() + r * k * item, rows.read(r, buffer), k * item);
        a.data = copy.data();
        a.row_stride = static_cast<ptrdiff_t>(k);
      }
      std::vector<float> shift;
      if (has_bias) {
        shift.resize(n);
        RowBuffer buffer;
        to_f32(bias.read(0, buffer), bias_type, shift.data(), n);
      }
      matmul_run(a, w, has_bias ? shift.data() : nullptr, y, y_type, m, n, k);
    });
  }

  Arrays vjp(const Arrays& primals, const Arrays& cotangents, const std::vector<int>& argnums,
             const Arrays&) override {
    const mx::array &x = primals[0], &weight = primals[1], &dy = cotangents[0];
    Arrays out;
    for (const int i : argnums) {
      const auto dtype = primals[i].dtype();
      if (i == 0)
        out.push_back(mx::astype(kernels::matmul(dy, weight), dtype));
      else if (i == 1)
        out.push_back(mx::astype(kernels::matmul(mx::transpose(flat(dy)), flat(x)), dtype));
      else
        out.push_back(mx::astype(mx::sum(flat(dy), 0), dtype));
    }
    return out;
  }

  const char* name() const override { return "mlxcpp::Linear"; }
  bool is_equivalent(const mx::Primitive&) const override { return true; }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override {
    auto shape = in[0].shape();
    shape.back() = in[1].shape(0);
    return {shape};
  }
};

// a [..., M, K] and b [..., K, N] with equal batch axes.
class MatmulPrimitive final : public CpuPrimitive {
 public:
  explicit MatmulPrimitive(mx::Stream s) : CpuPrimitive(s, plain) {}

  static Arrays plain(const Arrays& in) { return {mx::matmul(in[0], in[1])}; }

  void eval_cpu(const Arrays& in, Arrays& out) override {
    out[0].set_data(mx::allocator::malloc(out[0].nbytes()));
    const mx::array &a = in[0], &b = in[1];
    const auto m = static_cast<size_t>(a.shape(-2)), k = static_cast<size_t>(a.shape(-1));
    const auto n = static_cast<size_t>(b.shape(-1));
    const size_t batch = out[0].size() / (m * n);
    auto& encoder = mx::cpu::get_command_encoder(stream());
    encoder.dispatch([=, va = matrix(a), vb = transposed(matrix(b)), y = out[0].data<std::byte>(),
                      y_type = *float_type(out[0].dtype()), item = out[0].itemsize(),
                      starts_a = starts(a), starts_b = starts(b)] {
      const auto run = [&](size_t i) {
        MatrixView x = va, w = vb;
        x.data = static_cast<const std::byte*>(va.data) + starts_a[i];
        w.data = static_cast<const std::byte*>(vb.data) + starts_b[i];
        matmul_run(x, w, nullptr, y + i * m * n * item, y_type, m, n, k);
      };
      // Small products are shared out whole, large ones one after the other by their blocks.
      constexpr size_t kSmall = size_t{1} << 22;
      if (m * n * k < kSmall)
        parallel_for(batch, std::max<size_t>(1, kSmall / 64 / (m * n * k + 1)),
                     [&](size_t begin, size_t end) {
                       for (size_t i = begin; i < end; ++i) run(i);
                     });
      else
        for (size_t i = 0; i < batch; ++i) run(i);
    });
  }

  Arrays vjp(const Arrays& primals, const Arrays& cotangents, const std::vector<int>& argnums,
             const Arrays&) override {
    const mx::array& dy = cotangents[0];
    const auto turned = [](const mx::array& x) { return mx::swapaxes(x, -1, -2); };
    Arrays out;
    for (const int i : argnums)
      out.push_back(mx::astype(i == 0 ? kernels::matmul(dy, turned(primals[1]))
                                      : kernels::matmul(turned(primals[0]), dy),
                               primals[i].dtype()));
    return out;
  }

  const char* name() const override { return "mlxcpp::Matmul"; }
  bool is_equivalent(const mx::Primitive&) const override { return true; }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override {
    auto shape = in[0].shape();
    shape.back() = in[1].shape(-1);
    return {shape};
  }

 private:
  // Where each matrix of the batch starts, in bytes.
  static std::vector<ptrdiff_t> starts(const mx::array& a) {
    std::vector<ptrdiff_t> out{0};
    for (size_t axis = 0; axis + 2 < a.ndim(); ++axis) {
      std::vector<ptrdiff_t> next;
      for (const ptrdiff_t start : out)
        for (int i = 0; i < a.shape(axis); ++i)
          next.push_back(start + i * a.strides(axis) * static_cast<ptrdiff_t>(a.itemsize()));
      out = std::move(next);
    }
    return out;
  }
};

// None where plain operations must do it.
std::optional<mx::Stream> stream_for(const Arrays& in, mx::Dtype out) {
  if (!float_type(out)) return std::nullopt;
  for (const mx::array& a : in)
    if (!float_type(a.dtype()) || a.size() == 0) return std::nullopt;
  return cpu_stream();
}

}  // namespace

mx::array linear(const mx::array& x, const mx::array& weight,
                 const std::optional<mx::array>& bias) {
  if (weight.ndim() != 2 || x.ndim() == 0 || x.shape(-1) != weight.shape(1))
    throw Error(
        "linear: cannot multiply x {} by the transpose of weight {}: expected x [..., K] "
        "and weight [N, K]",
        text(x.shape()), text(weight.shape()));
  if (bias && bias->shape() != mx::Shape{weight.shape(0)})
    throw Error("linear: expected bias [{}] as weight {} has rows, found {}", weight.shape(0),
                text(weight.shape()), text(bias->shape()));
  auto dtype = mx::promote_types(x.dtype(), weight.dtype());
  Arrays in{x, weight};
  if (bias) {
    dtype = mx::promote_types(dtype, bias->dtype());
    in.push_back(*bias);
  }
  const auto stream = stream_for(in, dtype);
  if (!stream) return LinearPrimitive::plain(in)[0];
  auto shape = x.shape();
  shape.back() = weight.shape(0);
  return mx::array(std::move(shape), dtype, std::make_shared<LinearPrimitive>(*stream),
                   std::move(in));
}

mx::array matmul(const mx::array& a, const mx::array& b) {
  const auto fail = [&] {
    throw Error("matmul: cannot multiply {} by {}", text(a.shape()), text(b.shape()));
  };
  if (a.ndim() == 0 || b.ndim() == 0) fail();
  if (a.ndim() == 1) return mx::squeeze(kernels::matmul(mx::expand_dims(a, 0), b), -2);
  if (b.ndim() == 1) return mx::squeeze(kernels::matmul(a, mx::expand_dims(b, 1)), -1);
  if (a.shape(-1) != b.shape(-2)) fail();

  const auto dtype = mx::promote_types(a.dtype(), b.dtype());
  const auto stream = stream_for({a, b}, dtype);
  if (!stream) return mx::matmul(a, b);
  if (b.ndim() == 2) return linear(a, mx::transpose(b));  // all rows of a as one matrix

  const mx::Shape a_batch(a.shape().begin(), a.shape().end() - 2);
  const mx::Shape b_batch(b.shape().begin(), b.shape().end() - 2);
  auto shape = mx::broadcast_shapes(a_batch, b_batch);
  const auto spread = [&](const mx::array& x) {
    auto full = shape;
    full.insert(full.end(), {x.shape(-2), x.shape(-1)});
    return mx::broadcast_to(x, full);
  };
  Arrays in{spread(a), spread(b)};
  shape.insert(shape.end(), {a.shape(-2), b.shape(-1)});
  return mx::array(std::move(shape), dtype, std::make_shared<MatmulPrimitive>(*stream),
                   std::move(in));
}

}  // namespace mlxcpp::kernels

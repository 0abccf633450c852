#include "kernels/linear.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <mlx/backend/cpu/encoder.h>

#include "core/error.h"
#include "kernels/matmul_run.h"
#include "kernels/primitive.h"
#include "kernels/product_run.h"
#include "kernels/rows.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::kernels {
namespace {

std::string text(const mx::Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

// The last two axes of an evaluated array.
MatrixView matrix(const mx::array& a) {
  return {a.data<std::byte>(), *float_type(a.dtype()), a.strides(-2), a.strides(-1)};
}

thread_local bool any_order = false;

// Products of fewer rows are not worth repacking the other operand.
constexpr size_t kManyRows = 16;

void run_product(bool any_order, const MatrixView& a, const MatrixView& b, const float* bias,
                 void* y, FloatType y_type, size_t m, size_t n, size_t k) {
  // bf16 has instructions of its own on some CPUs.
  const bool pairs = a.type == FloatType::bf16 && b.type == FloatType::bf16;
  if (any_order && !pairs && (m >= kManyRows || a.column_stride != 1))
    sum_of_products_run({{a, b, k}}, bias, y, y_type, m, n);
  else
    matmul_run(a, b, bias, y, y_type, m, n, k);
}

// The rows of an array as a matrix: in place, or in `copy`.
MatrixView rows_of(const Rows& rows, FloatType type, size_t item, std::vector<std::byte>& copy) {
  if (const auto layout = rows.regular())
    return {layout->data, type, layout->row_stride, layout->step};
  const size_t bytes = rows.length() * item;
  copy.resize(rows.count() * bytes);
  RowBuffer buffer;
  for (size_t r = 0; r < rows.count(); ++r)
    std::memcpy(copy.data() + r * bytes, rows.read(r, buffer), bytes);
  return {copy.data(), type, static_cast<ptrdiff_t>(rows.length()), 1};
}

mx::array flat(const mx::array& x) { return mx::reshape(x, {-1, x.shape(-1)}); }

// x, weight, and bias or not.
class LinearPrimitive final : public CpuPrimitive {
 public:
  explicit LinearPrimitive(mx::Stream s)
      : CpuPrimitive(s, plain), any_order_(AnyOrderScope::active()) {}

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
                      y_type = *float_type(out[0].dtype()), any = any_order_,
                      n = static_cast<size_t>(weight.shape(0))] {
      const size_t m = rows.count(), k = rows.length();
      std::vector<std::byte> copy;
      const MatrixView a = rows_of(rows, x_type, item, copy);
      std::vector<float> shift;
      if (has_bias) {
        shift.resize(n);
        RowBuffer buffer;
        to_f32(bias.read(0, buffer), bias_type, shift.data(), n);
      }
      run_product(any, a, w, has_bias ? shift.data() : nullptr, y, y_type, m, n, k);
    });
  }

  Arrays vjp(const Arrays& primals, const Arrays& cotangents, const std::vector<int>& argnums,
             const Arrays&) override {
    const AnyOrderScope scope;
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
  bool is_equivalent(const mx::Primitive& other) const override {
    return any_order_ == static_cast<const LinearPrimitive&>(other).any_order_;
  }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override {
    auto shape = in[0].shape();
    shape.back() = in[1].shape(0);
    return {shape};
  }
  bool any_order() const { return any_order_; }

 private:
  bool any_order_;
};

// a [..., M, K] and b [..., K, N] with equal batch axes.
class MatmulPrimitive final : public CpuPrimitive {
 public:
  explicit MatmulPrimitive(mx::Stream s)
      : CpuPrimitive(s, plain), any_order_(AnyOrderScope::active()) {}

  static Arrays plain(const Arrays& in) { return {mx::matmul(in[0], in[1])}; }

  void eval_cpu(const Arrays& in, Arrays& out) override {
    out[0].set_data(mx::allocator::malloc(out[0].nbytes()));
    const mx::array &a = in[0], &b = in[1];
    const auto m = static_cast<size_t>(a.shape(-2)), k = static_cast<size_t>(a.shape(-1));
    const auto n = static_cast<size_t>(b.shape(-1));
    const size_t batch = out[0].size() / (m * n);
    auto& encoder = mx::cpu::get_command_encoder(stream());
    encoder.dispatch([=, va = matrix(a), vb = transposed(matrix(b)), y = out[0].data<std::byte>(),
                      y_type = *float_type(out[0].dtype()), any = any_order_,
                      item = out[0].itemsize(), starts_a = starts(a), starts_b = starts(b)] {
      const auto run = [&](size_t i) {
        MatrixView x = va, w = vb;
        x.data = static_cast<const std::byte*>(va.data) + starts_a[i];
        w.data = static_cast<const std::byte*>(vb.data) + starts_b[i];
        run_product(any, x, w, nullptr, y + i * m * n * item, y_type, m, n, k);
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
    const AnyOrderScope scope;
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
  bool is_equivalent(const mx::Primitive& other) const override {
    return any_order_ == static_cast<const MatmulPrimitive&>(other).any_order_;
  }
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

  bool any_order_;
};

// x, weight, z, b and perhaps a bias, all f32: x weight^T + z b + bias. With `turned` weight is
// [K, N], and b [N, R].
class SumOfProducts final : public CpuPrimitive {
 public:
  SumOfProducts(mx::Stream s, bool turned)
      : CpuPrimitive(s, [turned](const Arrays& in) { return plain(turned, in); }),
        turned_(turned) {}

  static Arrays plain(bool turned, const Arrays& in) {
    const auto y = turned ? mx::matmul(in[0], in[1]) + mx::matmul(in[2], mx::transpose(in[3]))
                          : mx::matmul(in[0], mx::transpose(in[1])) + mx::matmul(in[2], in[3]);
    return {in.size() > 4 ? y + in[4] : y};
  }

  void eval_cpu(const Arrays& in, Arrays& out) override {
    out[0].set_data(mx::allocator::malloc(out[0].nbytes()));
    const auto weight = matrix(in[1]), b = matrix(in[3]);
    mx::cpu::get_command_encoder(stream()).dispatch(
        [x = Rows(in[0]), z = Rows(in[2]), bias = Rows(in.back()),
         weight = turned_ ? transposed(weight) : weight, b = turned_ ? b : transposed(b),
         has_bias = in.size() > 4, y = out[0].data<float>(),
         n = static_cast<size_t>(out[0].shape(-1))] {
          constexpr auto kType = FloatType::f32;
          std::vector<std::byte> x_copy, z_copy;
          RowBuffer buffer;
          sum_of_products_run({{rows_of(x, kType, 4, x_copy), weight, x.length()},
                               {rows_of(z, kType, 4, z_copy), b, z.length()}},
                              has_bias ? static_cast<const float*>(bias.read(0, buffer)) : nullptr,
                              y, kType, x.count(), n);
        });
  }

  const char* name() const override { return "mlxcpp::SumOfProducts"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    return turned_ == static_cast<const SumOfProducts&>(other).turned_;
  }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override {
    auto shape = in[0].shape();
    shape.back() = in[1].shape(turned_ ? 1 : 0);
    return {shape};
  }

  static mx::array make(mx::Stream s, bool turned, Arrays in) {
    auto shape = in[0].shape();
    shape.back() = in[1].shape(turned ? 1 : 0);
    return mx::array(std::move(shape), mx::float32, std::make_shared<SumOfProducts>(s, turned),
                     std::move(in));
  }

 private:
  bool turned_;
};

// x, weight, a, b and perhaps a bias, all f32 -> y, and z = scale (x a), which the gradient needs.
class LowRankLinear final : public CpuPrimitive {
 public:
  LowRankLinear(mx::Stream s, float scale)
      : CpuPrimitive(s, [scale](const Arrays& in) { return plain(scale, in); }), scale_(scale) {}

  static Arrays plain(float scale, const Arrays& in) {
    const auto z = mx::matmul(in[0], in[2]) * mx::array(scale, in[2].dtype());
    const auto y = mx::matmul(in[0], mx::transpose(in[1])) + mx::matmul(z, in[3]);
    return {in.size() > 4 ? y + in[4] : y, z};
  }

  void eval_cpu(const Arrays& in, Arrays& out) override {
    for (auto& o : out) o.set_data(mx::allocator::malloc(o.nbytes()));
    mx::cpu::get_command_encoder(stream()).dispatch(
        [rows = Rows(in[0]), bias = Rows(in.back()), weight = matrix(in[1]),
         a = transposed(matrix(in[2])), b = transposed(matrix(in[3])), scale = scale_,
         has_bias = in.size() > 4, y = out[0].data<float>(), z = out[1].data<float>(),
         n = static_cast<size_t>(in[1].shape(0)), rank = static_cast<size_t>(in[2].shape(1))] {
          constexpr auto kType = FloatType::f32;
          std::vector<std::byte> copy;
          RowBuffer buffer;
          const MatrixView x = rows_of(rows, kType, 4, copy);
          const size_t m = rows.count(), k = rows.length();
          sum_of_products_run({{x, a, k}}, nullptr, z, kType, m, rank);
          for (size_t i = 0; i < m * rank; ++i) z[i] *= scale;
          sum_of_products_run(
              {{x, weight, k}, {{z, kType, static_cast<ptrdiff_t>(rank), 1}, b, rank}},
              has_bias ? static_cast<const float*>(bias.read(0, buffer)) : nullptr, y, kType, m, n);
        });
  }

  Arrays vjp(const Arrays& primals, const Arrays& cotangents, const std::vector<int>& argnums,
             const Arrays& outputs) override {
    const AnyOrderScope scope;
    const mx::array &x = primals[0], &weight = primals[1], &a = primals[2], &b = primals[3];
    const mx::array &dy = cotangents[0], &z = outputs[1];
    const auto dz =  // of x a
        kernels::matmul(dy, mx::transpose(b)) * mx::array(scale_);
    Arrays out;
    for (const int i : argnums) switch (i) {
        case 0:
          out.push_back(SumOfProducts::make(stream(), true, {dy, weight, dz, a}));
          break;
        case 1:
          out.push_back(kernels::matmul(mx::transpose(flat(dy)), flat(x)));
          break;
        case 2:
          out.push_back(kernels::matmul(mx::transpose(flat(x)), flat(dz)));
          break;
        case 3:
          out.push_back(kernels::matmul(mx::transpose(flat(z)), flat(dy)));
          break;
        default:
          out.push_back(mx::sum(flat(dy), 0));
      }
    return out;
  }

  const char* name() const override { return "mlxcpp::LowRankLinear"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    return scale_ == static_cast<const LowRankLinear&>(other).scale_;
  }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override {
    auto y = in[0].shape(), z = y;
    y.back() = in[1].shape(0);
    z.back() = in[2].shape(1);
    return {y, z};
  }

 private:
  float scale_;
};

// None where plain operations must do it.
std::optional<mx::Stream> stream_for(const Arrays& in, mx::Dtype out) {
  if (!float_type(out)) return std::nullopt;
  for (const mx::array& a : in)
    if (!float_type(a.dtype()) || a.size() == 0) return std::nullopt;
  return cpu_stream();
}

}  // namespace

AnyOrderScope::AnyOrderScope() : before_(std::exchange(any_order, true)) {}
AnyOrderScope::~AnyOrderScope() { any_order = before_; }
bool AnyOrderScope::active() { return any_order; }

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

std::optional<LinearParts> linear_parts(const mx::array& y) {
  if (y.status() != mx::array::Status::unscheduled || !y.has_primitive()) return std::nullopt;
  const auto* linear = dynamic_cast<const LinearPrimitive*>(&y.primitive());
  if (!linear || !linear->any_order() || y.inputs().size() != 2) return std::nullopt;
  return LinearParts{y.inputs()[0], y.inputs()[1]};
}

mx::array low_rank_linear(const mx::array& x, const mx::array& weight,
                          const std::optional<mx::array>& bias, const mx::array& a,
                          const mx::array& b, float scale) {
  if (a.ndim() != 2 || b.ndim() != 2 || weight.ndim() != 2 || a.shape(1) != b.shape(0) ||
      a.shape(0) != weight.shape(1) || b.shape(1) != weight.shape(0))
    throw Error(
        "low_rank_linear: weight {}, a {} and b {} do not fit; expected [N, K], [K, R] and [R, N]",
        text(weight.shape()), text(a.shape()), text(b.shape()));
  Arrays in{x, weight, a, b};
  if (bias) in.push_back(*bias);
  const bool f32 = std::all_of(in.begin(), in.end(),
                               [](const mx::array& i) { return i.dtype() == mx::float32; });
  const auto stream = stream_for(in, mx::float32);
  if (!f32 || !stream) {
    const auto y = linear(x, weight, bias);
    const auto z = kernels::matmul(x, a);
    return y + mx::astype(kernels::matmul(z * mx::array(scale, z.dtype()), b), y.dtype());
  }
  if (x.ndim() == 0 || x.shape(-1) != weight.shape(1))
    throw Error("low_rank_linear: x {} and weight {} do not fit", text(x.shape()),
                text(weight.shape()));
  if (bias && bias->shape() != mx::Shape{weight.shape(0)})
    throw Error("low_rank_linear: expected bias [{}], found {}", weight.shape(0),
                text(bias->shape()));
  auto primitive = std::make_shared<LowRankLinear>(*stream, scale);
  auto shapes = primitive->output_shapes(in);
  return mx::array::make_arrays(std::move(shapes), {mx::float32, mx::float32}, primitive, in)[0];
}

}  // namespace mlxcpp::kernels

#include "kernels/activations.h"

#include <cmath>

#include <mlx/backend/cpu/encoder.h>

#include "core/error.h"
#include "kernels/gradients.h"
#include "kernels/primitive.h"
#include "kernels/row_kernels.h"
#include "kernels/rows.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::kernels {
namespace {

// The same maths in plain operations.
mx::array constant(double v, mx::Dtype dtype) { return mx::array(static_cast<float>(v), dtype); }

mx::array plain_silu(const mx::array& x) { return x * mx::sigmoid(x); }

mx::array plain_gelu(const mx::array& x) {
  const auto k = [&](double v) { return constant(v, x.dtype()); };
  return x * k(0.5) * (k(1) + mx::erf(x * k(M_SQRT1_2)));
}

mx::array plain_gelu_approx(const mx::array& x) {
  const auto k = [&](double v) { return constant(v, x.dtype()); };
  return k(0.5) * x * (k(1) + mx::tanh(k(std::sqrt(2 / M_PI)) * (x + k(0.044715) * x * x * x)));
}

mx::array plain_relu2(const mx::array& x) {
  return mx::square(mx::maximum(x, mx::array(0.0f, x.dtype())));
}

Fallback plain(Activation activation) {
  switch (activation) {
    case Activation::silu:
      return [](const Arrays& in) { return Arrays{plain_silu(in[0])}; };
    case Activation::gelu:
      return [](const Arrays& in) { return Arrays{plain_gelu(in[0])}; };
    case Activation::gelu_approx:
      return [](const Arrays& in) { return Arrays{plain_gelu_approx(in[0])}; };
    case Activation::tanh:
      return [](const Arrays& in) { return Arrays{mx::tanh(in[0])}; };
    case Activation::sigmoid:
      return [](const Arrays& in) { return Arrays{mx::sigmoid(in[0])}; };
    case Activation::relu:
      return
          [](const Arrays& in) { return Arrays{mx::maximum(in[0], constant(0, in[0].dtype()))}; };
    case Activation::relu2:
      return [](const Arrays& in) { return Arrays{plain_relu2(in[0])}; };
    case Activation::swiglu:
      return [](const Arrays& in) { return Arrays{plain_silu(in[0]) * in[1]}; };
    case Activation::geglu:
      return [](const Arrays& in) { return Arrays{plain_gelu(in[0]) * in[1]}; };
    case Activation::geglu_approx:
      return [](const Arrays& in) { return Arrays{plain_gelu_approx(in[0]) * in[1]}; };
    case Activation::relu2_glu:
      return [](const Arrays& in) { return Arrays{plain_relu2(in[0]) * in[1]}; };
  }
  return {};
}

// Its gradient: x (y where the slope comes from the result), up (gated only), dy -> dx, dup.
Fallback plain_gradient(Activation activation) {
  const auto one = [](const mx::array& a) { return constant(1, a.dtype()); };
  switch (activation) {
    case Activation::tanh:
      return [=](const Arrays& in) { return Arrays{in[1] * (one(in[0]) - mx::square(in[0]))}; };
    case Activation::sigmoid:
      return [=](const Arrays& in) { return Arrays{in[1] * in[0] * (one(in[0]) - in[0])}; };
    case Activation::relu:
      return [](const Arrays& in) {
        return Arrays{in[1] *
                      mx::astype(mx::greater(in[0], constant(0, in[0].dtype())), in[1].dtype())};
      };
    default:
      return [forward = plain(activation)](const Arrays& in) {
        return mx::vjp(forward, {in.begin(), in.end() - 1}, {in.back()}).second;
      };
  }
}

constexpr size_t kGrain = 8192;  // elements

class ActivationPrimitive final : public CpuPrimitive {
 public:
  ActivationPrimitive(mx::Stream s, Activation activation)
      : CpuPrimitive(s, plain(activation)), activation_(activation) {}

  void eval_cpu(const Arrays& in, Arrays& out) override {
    const mx::array &x = in.front(), &up = in.back();
    const auto type = static_cast<size_t>(*float_type(x.dtype()));
    auto& encoder = mx::cpu::get_command_encoder(stream());
    const auto run = row_kernels().activation[static_cast<size_t>(activation_)][type];
    const size_t item = x.itemsize();

    if (x.flags().contiguous && up.flags().contiguous && x.strides() == up.strides() &&
        x.data_size() == up.data_size()) {
      // One layout without holes: a single run over memory, whatever the order of the axes.
      const size_t n = x.data_size();
      if (x.is_donatable())
        out[0].copy_shared_buffer(x);
      else
        out[0].set_data(mx::allocator::malloc(n * item), n, x.strides(), x.flags());
      encoder.dispatch(
          [=, x = x.data<std::byte>(), up = up.data<std::byte>(), y = out[0].data<std::byte>()] {
            parallel_for(n, kGrain, [=](size_t b, size_t e) {
              run(x + b * item, up + b * item, y + b * item, e - b);
            });
          });
      return;
    }
    out[0].set_data(mx::allocator::malloc(out[0].nbytes()));
    encoder.dispatch([=, x = Rows(x), up = Rows(up), y = out[0].data<std::byte>()] {
      const size_t length = x.length(), pieces = (length - 1) / kGrain + 1;
      parallel_for(x.count() * pieces, pieces > 1 ? 1 : row_grain(length), [&](size_t b, size_t e) {
        RowBuffer first, second;
        for (size_t i = b; i < e; ++i) {
          const size_t r = i / pieces, begin = i % pieces * kGrain;
          const size_t n = std::min(kGrain, length - begin);
          run(x.read(r, begin, n, first), up.read(r, begin, n, second),
              y + (r * length + begin) * item, n);
        }
      });
    });
  }

  Arrays vjp(const Arrays& primals, const Arrays& cotangents, const std::vector<int>& argnums,
             const Arrays& outputs) override {
    if (!has_gradient_kernel(primals, stream()))
      return CpuPrimitive::vjp(primals, cotangents, argnums, outputs);
    const auto all =
        activation_grad(activation_, slope_from_result(activation_) ? outputs : primals,
                        cotangents[0], plain_gradient(activation_), stream());
    Arrays out;
    for (const int i : argnums) out.push_back(all[i]);
    return out;
  }

  const char* name() const override { return "mlxcpp::Activation"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    return activation_ == static_cast<const ActivationPrimitive&>(other).activation_;
  }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override { return {in[0].shape()}; }

 private:
  Activation activation_;
};

mx::array apply(Activation activation, Arrays in) {
  const mx::array& x = in.front();
  if (x.shape() != in.back().shape())
    throw Error("activation: gate has shape {}, up has {}; they must be equal",
                fmt::join(x.shape(), "x"), fmt::join(in.back().shape(), "x"));
  const auto stream = cpu_stream();
  if (!stream || !float_type(x.dtype()) || x.dtype() != in.back().dtype() || x.size() == 0)
    return plain(activation)(in)[0];
  auto shape = x.shape();
  const auto dtype = x.dtype();
  return mx::array(std::move(shape), dtype,
                   std::make_shared<ActivationPrimitive>(*stream, activation), std::move(in));
}

}  // namespace

mx::array silu(const mx::array& x) { return apply(Activation::silu, {x}); }
mx::array gelu(const mx::array& x) { return apply(Activation::gelu, {x}); }
mx::array gelu_approx(const mx::array& x) { return apply(Activation::gelu_approx, {x}); }
mx::array tanh(const mx::array& x) { return apply(Activation::tanh, {x}); }
mx::array sigmoid(const mx::array& x) { return apply(Activation::sigmoid, {x}); }
mx::array relu(const mx::array& x) { return apply(Activation::relu, {x}); }

mx::array relu2(const mx::array& x) { return apply(Activation::relu2, {x}); }

mx::array swiglu(const mx::array& gate, const mx::array& up) {
  return apply(Activation::swiglu, {gate, up});
}
mx::array geglu(const mx::array& gate, const mx::array& up) {
  return apply(Activation::geglu, {gate, up});
}
mx::array geglu_approx(const mx::array& gate, const mx::array& up) {
  return apply(Activation::geglu_approx, {gate, up});
}
mx::array relu2_glu(const mx::array& gate, const mx::array& up) {
  return apply(Activation::relu2_glu, {gate, up});
}

namespace {

class KeepLargest final : public CpuPrimitive {
 public:
  KeepLargest(mx::Stream s, float cutoff)
      : CpuPrimitive(s, [cutoff](const Arrays& in) { return Arrays{plain(in[0], cutoff)}; }),
        cutoff_(cutoff) {}

  static mx::array plain(const mx::array& x, float cutoff) {
    const auto deviation = mx::std(x, -1, true) * mx::array(cutoff, x.dtype());
    return mx::maximum(x - (mx::mean(x, -1, true) + deviation), mx::array(0.0f, x.dtype()));
  }

  void eval_cpu(const Arrays& in, Arrays& out) override {
    out[0].set_data(mx::allocator::malloc(out[0].nbytes()));
    auto& encoder = mx::cpu::get_command_encoder(stream());
    encoder.dispatch([rows = Rows(in[0]), y = out[0].data<float>(), cutoff = cutoff_] {
      const size_t n = rows.length();
      parallel_for(rows.count(), row_grain(n), [&](size_t begin, size_t end) {
        RowBuffer buffer;
        for (size_t r = begin; r < end; ++r)
          keep_largest(static_cast<const float*>(rows.read(r, buffer)), y + r * n, n, cutoff);
      });
    });
  }
  const char* name() const override { return "mlxcpp::KeepLargest"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    return cutoff_ == static_cast<const KeepLargest&>(other).cutoff_;
  }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override { return {in[0].shape()}; }

 private:
  float cutoff_;
};

}  // namespace

mx::array keep_largest(const mx::array& x, float cutoff) {
  const auto stream = cpu_stream();
  if (!stream || x.dtype() != mx::float32 || x.ndim() == 0 || x.size() == 0)
    return KeepLargest::plain(x, cutoff);
  return mx::array(x.shape(), mx::float32, std::make_shared<KeepLargest>(*stream, cutoff), {x});
}

void keep_largest(const float* x, float* y, size_t n, float cutoff) {
  double sum = 0, squares = 0;
  for (size_t i = 0; i < n; ++i) sum += x[i];
  const double mean = sum / static_cast<double>(n);
  for (size_t i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const auto threshold =
      static_cast<float>(mean + cutoff * std::sqrt(squares / static_cast<double>(n)));
  for (size_t i = 0; i < n; ++i) y[i] = x[i] > threshold ? x[i] - threshold : 0.0f;
}

}  // namespace mlxcpp::kernels

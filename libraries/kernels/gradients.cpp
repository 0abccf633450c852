#include "kernels/gradients.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <mlx/backend/cpu/encoder.h>

#include "core/error.h"
#include "kernels/product_run.h"
#include "kernels/rows.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::kernels {
namespace {

// Second derivatives are nobody's business here.
Fallback no_second_derivative(const char* what) {
  return [what](const Arrays&) -> Arrays {
    throw Error("{}: there is no gradient of this gradient", what);
  };
}

constexpr size_t kGrain = 8192;  // elements

class ActivationGrad final : public CpuPrimitive {
 public:
  ActivationGrad(mx::Stream s, Activation activation, Fallback plain)
      : CpuPrimitive(s, std::move(plain)), activation_(activation) {}

  // x, up (gated only), dy -> dx, dup
  void eval_cpu(const Arrays& in, Arrays& out) override {
    for (auto& o : out) o.set_data(mx::allocator::malloc(o.nbytes()));
    const Rows x(in.front()), up(in[in.size() - 2]), dy(in.back());
    auto& encoder = mx::cpu::get_command_encoder(stream());
    const auto run = row_kernels().activation_grad[static_cast<size_t>(activation_)];
    float *dx = out.front().data<float>(), *dup = out.back().data<float>();
    if (std::all_of(in.begin(), in.end(), [](const auto& a) { return a.flags().row_contiguous; })) {
      // Rows may be very short (channels): all of them at once.
      encoder.dispatch([=, total = in.front().size(), x = in.front().data<float>(),
                        up = in[in.size() - 2].data<float>(), dy = in.back().data<float>()] {
        parallel_for(total, kGrain, [&](size_t begin, size_t end) {
          run(x + begin, up + begin, dy + begin, dx + begin, dup + begin, end - begin);
        });
      });
      return;
    }
    encoder.dispatch([=] {
      const size_t n = x.length();
      parallel_for(x.count(), row_grain(n), [&](size_t begin, size_t end) {
        RowBuffer first, second, third;
        const auto floats = [](const Rows& rows, size_t r, RowBuffer& buffer) {
          return static_cast<const float*>(rows.read(r, buffer));
        };
        for (size_t r = begin; r < end; ++r)
          run(floats(x, r, first), floats(up, r, second), floats(dy, r, third), dx + r * n,
              dup + r * n, n);
      });
    });
  }

  const char* name() const override { return "mlxcpp::ActivationGrad"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    return activation_ == static_cast<const ActivationGrad&>(other).activation_;
  }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override {
    return std::vector<mx::Shape>(in.size() - 1, in[0].shape());
  }

 private:
  Activation activation_;
};

class NormGrad final : public CpuPrimitive {
 public:
  NormGrad(mx::Stream s, bool layer, float eps)
      : CpuPrimitive(s, no_second_derivative("norm")), layer_(layer), eps_(eps) {}

  // x, dy, weight where there is one -> dx
  void eval_cpu(const Arrays& in, Arrays& out) override {
    out[0].set_data(mx::allocator::malloc(out[0].nbytes()));
    const Rows x(in[0]), dy(in[1]), weight(in.back());
    auto& encoder = mx::cpu::get_command_encoder(stream());
    encoder.dispatch([=, eps = eps_, weighted = in.size() > 2, dx = out[0].data<float>(),
                      run = layer_ ? row_kernels().layer_norm_grad : row_kernels().rms_norm_grad] {
      const size_t n = x.length();
      parallel_for(x.count(), row_grain(n), [&](size_t begin, size_t end) {
        RowBuffer first, second, third;
        const auto* w = weighted ? static_cast<const float*>(weight.read(0, third)) : nullptr;
        for (size_t r = begin; r < end; ++r)
          run(static_cast<const float*>(x.read(r, first)), w,
              static_cast<const float*>(dy.read(r, second)), dx + r * n, n, eps);
      });
    });
  }

  const char* name() const override { return "mlxcpp::NormGrad"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    const auto& o = static_cast<const NormGrad&>(other);
    return layer_ == o.layer_ && eps_ == o.eps_;
  }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override { return {in[0].shape()}; }

 private:
  bool layer_;
  float eps_;
};

// [B, H, L, D] f32 in memory; strides in elements.
struct Heads {
  float* data;
  int64_t batch, head, token, step;

  explicit Heads(const mx::array& a)
      : data(const_cast<float*>(a.data<float>())),
        batch(a.strides(0)),
        head(a.strides(1)),
        token(a.strides(2)),
        step(a.strides(3)) {}
  // The rows of one head, from `first` on.
  MatrixView rows(int b, int h, int first = 0) const {
    return {data + b * batch + h * head + first * token, FloatType::f32, token, step};
  }
};

// y [m, n] = a [m, k] b^T, y contiguous.
void product(const MatrixView& a, const MatrixView& b, float* y, size_t m, size_t n, size_t k) {
  sum_of_products_run({{a, b, k}}, nullptr, y, FloatType::f32, m, n);
}

class AttentionGrad final : public CpuPrimitive {
 public:
  AttentionGrad(mx::Stream s, AttentionOptions o)
      : CpuPrimitive(s, no_second_derivative("attention")), o_(std::move(o)) {}

  // q, k, v, dy, then mask and sinks where there are any -> dq, dk, dv
  void eval_cpu(const Arrays& in, Arrays& out) override {
    for (auto& o : out) o.set_data(mx::allocator::malloc(o.nbytes()));
    size_t next = 4;
    Job job{Heads(in[0]),  Heads(in[1]),  Heads(in[2]), Heads(in[3]),
            Heads(out[0]), Heads(out[1]), Heads(out[2])};
    job.B = in[0].shape(0);
    job.H = in[0].shape(1);
    job.L = in[0].shape(2);
    job.D = in[0].shape(3);
    job.groups = in[1].shape(1);
    job.S = in[1].shape(2);
    job.Dv = in[2].shape(3);
    job.scale = o_.scale;
    job.softcap = o_.softcap;
    job.causal = o_.causal && !o_.mask;
    job.window = job.causal ? o_.window.value_or(0) : 0;
    if (o_.mask) {
      const mx::array& mask = in[next++];
      job.mask = mask.data<std::byte>();
      job.boolean = mask.dtype() == mx::bool_;
      for (int i = 0; i < 4; ++i) job.mask_strides[i] = mask.strides(i);
    }
    if (o_.sinks) job.sinks = in[next].data<float>();
    mx::cpu::get_command_encoder(stream()).dispatch([job] {
      parallel_for(static_cast<size_t>(job.B) * job.groups, 1, [&](size_t begin, size_t end) {
        for (size_t i = begin; i < end; ++i)
          job.run(static_cast<int>(i) / job.groups, static_cast<int>(i) % job.groups);
      });
    });
  }

  const char* name() const override { return "mlxcpp::AttentionGrad"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    const auto& o = static_cast<const AttentionGrad&>(other).o_;
    return o.scale == o_.scale && o.causal == o_.causal && o.window == o_.window &&
           o.softcap == o_.softcap && o.mask.has_value() == o_.mask.has_value() &&
           o.sinks.has_value() == o_.sinks.has_value();
  }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override {
    return {in[0].shape(), in[1].shape(), in[2].shape()};
  }

 private:
  struct Job {
    Heads q, k, v, dy, dq, dk, dv;
    int B = 0, H = 0, L = 0, D = 0, groups = 0, S = 0, Dv = 0;
    float scale = 1, softcap = 0;
    bool causal = true;
    int window = 0;
    const std::byte* mask = nullptr;
    bool boolean = false;
    int64_t mask_strides[4] = {};
    const float* sinks = nullptr;

    // The keys that query i may see by its place: [first, last).
    std::pair<int, int> seen(int i) const {
      if (!causal) return {0, S};
      const int last = std::clamp(S - L + i + 1, 0, S);
      return {window > 0 ? std::max(0, last - window) : 0, last};
    }

    // All query heads that share a key head.
    void run(int b, int g) const {
      constexpr int kRows = 128;  // queries at a time: bounds the scores that are in memory
      const auto floats = [](size_t n) { return std::vector<float>(n); };
      const size_t most = static_cast<size_t>(std::min(kRows, L)) * S;
      auto p = floats(most), ds = floats(most), slopes = floats(softcap > 0 ? most : 0);
      auto part = floats(static_cast<size_t>(std::max(S, kRows)) * std::max(D, Dv));
      auto sum_k = floats(static_cast<size_t>(S) * D), sum_v = floats(static_cast<size_t>(S) * Dv);
      const int per_group = H / groups;
      for (int h = g * per_group; h < (g + 1) * per_group; ++h)
        for (int i = 0; i < L; i += kRows) {
          const int rows = std::min(kRows, L - i);
          const int first = seen(i).first, last = seen(i + rows - 1).second;
          const int n = last - first;
          if (n <= 0) {
            store(dq, b, h, i, rows, D, nullptr);
            continue;
          }
          probabilities(b, h, g, i, rows, first, n, p.data(), slopes.data());
          product(dy.rows(b, h, i), v.rows(b, g, first), ds.data(), rows, n, Dv);
          for (int r = 0; r < rows; ++r) {
            float* row = ds.data() + static_cast<size_t>(r) * n;
            row_kernels().softmax_grad(p.data() + static_cast<size_t>(r) * n, row, row, n, scale);
            if (softcap > 0)
              for (int j = 0; j < n; ++j) row[j] *= slopes[static_cast<size_t>(r) * n + j];
          }
          product(dense(ds.data(), n), transposed(k.rows(b, g, first)), part.data(), rows, D, n);
          store(dq, b, h, i, rows, D, part.data());
          product(transposed(dense(ds.data(), n)), transposed(q.rows(b, h, i)), part.data(), n, D,
                  rows);
          add(sum_k.data() + static_cast<size_t>(first) * D, part.data(),
              static_cast<size_t>(n) * D);
          product(transposed(dense(p.data(), n)), transposed(dy.rows(b, h, i)), part.data(), n, Dv,
                  rows);
          add(sum_v.data() + static_cast<size_t>(first) * Dv, part.data(),
              static_cast<size_t>(n) * Dv);
        }
      store(dk, b, g, 0, S, D, sum_k.data());
      store(dv, b, g, 0, S, Dv, sum_v.data());
    }

    // p [rows, n], and where scores are capped the slope of the cap.
    void probabilities(int b, int h, int g, int i, int rows, int first, int n, float* p,
                       float* slopes) const {
      product(q.rows(b, h, i), k.rows(b, g, first), p, rows, n, D);
      for (int r = 0; r < rows; ++r) {
        float* row = p + static_cast<size_t>(r) * n;
        const auto [row_first, row_last] = seen(i + r);
        const int from = std::max(row_first - first, 0), to = row_last - first;
        std::fill(row, row + from, 0.0f);
        std::fill(row + std::max(from, to), row + n, 0.0f);
        if (to <= from) continue;
        for (int j = from; j < to; ++j) row[j] *= scale;
        if (softcap > 0)
          for (int j = from; j < to; ++j) {
            const float t = std::tanh(row[j] / softcap);
            row[j] = softcap * t;
            slopes[static_cast<size_t>(r) * n + j] = 1 - t * t;
          }
        if (mask) apply_mask(b, h, i + r, first + from, row + from, to - from);
        float largest, sum;
        row_kernels().max_and_sum_exp[0](row + from, to - from, &largest, &sum);
        if (sinks) {
          const float both = std::max(largest, sinks[h]);
          sum = (sum > 0 ? sum * std::exp(largest - both) : 0) + std::exp(sinks[h] - both);
          largest = both;
        }
        if (!(sum > 0))
          std::fill(row + from, row + to, 0.0f);  // it sees nothing
        else
          row_kernels().exp_shifted[0](row + from, row + from, to - from, largest, 1 / sum);
      }
    }

    void apply_mask(int b, int h, int query, int key, float* scores, int n) const {
      const int64_t start = b * mask_strides[0] + h * mask_strides[1] + query * mask_strides[2] +
                            key * mask_strides[3];
      for (int j = 0; j < n; ++j) {
        const int64_t at = start + j * mask_strides[3];
        if (boolean)
          scores[j] = reinterpret_cast<const bool*>(mask)[at] ? scores[j] : -INFINITY;
        else
          scores[j] += reinterpret_cast<const float*>(mask)[at];
      }
    }

    static void add(float* sum, const float* x, size_t n) {
      for (size_t i = 0; i < n; ++i) sum[i] += x[i];
    }
    // rows [rows, width] (null: zeros) into a head of `to`.
    static void store(const Heads& to, int b, int h, int first, int rows, int width,
                      const float* from) {
      for (int r = 0; r < rows; ++r) {
        float* row = to.data + b * to.batch + h * to.head + (first + r) * to.token;
        if (from)
          std::memcpy(row, from + static_cast<size_t>(r) * width, width * sizeof(float));
        else
          std::fill_n(row, width, 0.0f);
      }
    }
  };

  AttentionOptions o_;  // mask and sinks: whether there are any; the arrays are inputs
};

}  // namespace

bool has_gradient_kernel(const Arrays& in, mx::Stream s) {
  return s.device == mx::Device::cpu && std::all_of(in.begin(), in.end(), [](const mx::array& a) {
           return a.dtype() == mx::float32 && a.size() > 0;
         });
}

Arrays activation_grad(Activation activation, const Arrays& in, const mx::array& dy, Fallback plain,
                       mx::Stream s) {
  Arrays inputs = in;
  inputs.push_back(dy);
  return mx::array::make_arrays(std::vector<mx::Shape>(in.size(), in[0].shape()),
                                std::vector<mx::Dtype>(in.size(), mx::float32),
                                std::make_shared<ActivationGrad>(s, activation, std::move(plain)),
                                inputs);
}

mx::array norm_grad(bool layer, const mx::array& x, const std::optional<mx::array>& weight,
                    const mx::array& dy, float eps, mx::Stream s) {
  Arrays in{x, dy};
  if (weight) in.push_back(*weight);
  return mx::array(x.shape(), mx::float32, std::make_shared<NormGrad>(s, layer, eps),
                   std::move(in));
}

Arrays attention_grad(const mx::array& q, const mx::array& k, const mx::array& v,
                      const AttentionOptions& o, const mx::array& dy, mx::Stream s) {
  Arrays in{q, k, v, dy};
  AttentionOptions kind = o;
  const mx::Shape scores{q.shape(0), q.shape(1), q.shape(2), k.shape(2)};
  if (o.mask)
    in.push_back(mx::broadcast_to(
        o.mask->dtype() == mx::bool_ ? *o.mask : mx::astype(*o.mask, mx::float32), scores));
  if (o.sinks) in.push_back(mx::contiguous(mx::astype(*o.sinks, mx::float32)));
  return mx::array::make_arrays({q.shape(), k.shape(), v.shape()},
                                {mx::float32, mx::float32, mx::float32},
                                std::make_shared<AttentionGrad>(s, std::move(kind)), in);
}

}  // namespace mlxcpp::kernels

#include "kernels/pool.h"

#include <algorithm>

#include <mlx/backend/cpu/encoder.h>

#include "core/error.h"
#include "kernels/conv_kernels.h"
#include "kernels/primitive.h"
#include "kernels/rows.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::kernels {
namespace {

struct Windows {
  std::array<int, 2> size, stride;
  bool mean;  // else the largest

  bool operator==(const Windows&) const = default;
  const char* name() const { return mean ? "mean_pool2d" : "max_pool2d"; }

  mx::Shape output(const mx::Shape& x) const {
    mx::Shape y = x;
    for (int i = 0; i < 2; ++i) y[1 + i] = (x[1 + i] - size[i]) / stride[i] + 1;
    return y;
  }
};

mx::array plain(const Windows& w, const mx::array& input) {
  const auto x = mx::contiguous(input);
  const auto y = w.output(x.shape());
  const int64_t pixel = x.shape(3), row = pixel * x.shape(2);
  const auto windows =
      mx::as_strided(x, {y[0], y[1], y[2], w.size[0], w.size[1], y[3]},
                     {row * x.shape(1), row * w.stride[0], pixel * w.stride[1], row, pixel, 1}, 0);
  return w.mean ? mx::mean(windows, {3, 4}) : mx::max(windows, {3, 4});
}

// A picture's sizes, in floats, and those of its rows of windows.
struct Picture {
  size_t x, y, rows, row_step, row;
  PoolRow windows;

  Picture(const Windows& w, const mx::Shape& in, const mx::Shape& out) {
    const auto size = [](int n) { return static_cast<size_t>(n); };
    const size_t x_row = size(in[2]) * size(in[3]);
    rows = size(out[1]);
    row = size(out[2]) * size(out[3]);
    row_step = size(w.stride[0]) * x_row;
    x = size(in[1]) * x_row;
    y = rows * row;
    windows = {
        size(out[2]), size(out[3]), {size(w.size[0]), size(w.size[1])}, size(w.stride[1]), x_row};
  }
};

// The largest: x, y, dy -> dx. The mean: an array of x's shape whose numbers do not matter is not
// kept for it: dy -> dx.
class PoolGrad final : public CpuPrimitive {
 public:
  PoolGrad(mx::Stream s, const Windows& w, const mx::Shape& x)
      : CpuPrimitive(s,
                     [w, x](const Arrays& in) {
                       return mx::vjp([w](const Arrays& a) { return Arrays{plain(w, a[0])}; },
                                      {w.mean ? mx::zeros(x) : in[0]}, {in.back()})
                           .second;
                     }),
        windows_(w),
        x_(x) {}

  void eval_cpu(const Arrays& in, Arrays& out) override {
    out[0].set_data(mx::allocator::malloc(out[0].nbytes()));
    mx::cpu::get_command_encoder(stream()).dispatch(
        [n = static_cast<size_t>(x_[0]), mean = windows_.mean,
         p = Picture(windows_, x_, in.back().shape()), x = in.front().data<float>(),
         y = in[in.size() / 2].data<float>(), dy = in.back().data<float>(),
         to = out[0].data<float>()] {
          const ConvKernels& kernels = conv_kernels();
          // Windows of one picture may share pixels.
          parallel_for(n, 1, [&](size_t i, size_t) {
            std::fill_n(to + i * p.x, p.x, 0.0f);
            for (size_t r = 0; r < p.rows; ++r) {
              const size_t at = i * p.x + r * p.row_step, window = i * p.y + r * p.row;
              if (mean)
                kernels.mean_pool_grad(p.windows, dy + window, to + at);
              else
                kernels.max_pool_grad(p.windows, x + at, y + window, dy + window, to + at);
            }
          });
        });
  }

  const char* name() const override { return "mlxcpp::PoolGrad"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    const auto& o = static_cast<const PoolGrad&>(other);
    return windows_ == o.windows_ && x_ == o.x_;
  }
  std::vector<mx::Shape> output_shapes(const Arrays&) override { return {x_}; }

 private:
  Windows windows_;
  mx::Shape x_;
};

class Pool final : public CpuPrimitive {
 public:
  Pool(mx::Stream s, const Windows& w)
      : CpuPrimitive(s, [w](const Arrays& in) { return Arrays{plain(w, in[0])}; }), windows_(w) {}

  void eval_cpu(const Arrays& in, Arrays& out) override {
    out[0].set_data(mx::allocator::malloc(out[0].nbytes()));
    mx::cpu::get_command_encoder(stream()).dispatch(
        [n = static_cast<size_t>(in[0].shape(0)), mean = windows_.mean,
         p = Picture(windows_, in[0].shape(), out[0].shape()), x = in[0].data<float>(),
         y = out[0].data<float>()] {
          const auto run = mean ? conv_kernels().mean_pool : conv_kernels().max_pool;
          parallel_for(n * p.rows, row_grain(p.row), [&](size_t begin, size_t end) {
            for (size_t r = begin; r < end; ++r)
              run(p.windows, x + r / p.rows * p.x + r % p.rows * p.row_step, y + r * p.row);
          });
        });
  }

  Arrays vjp(const Arrays& primals, const Arrays& cotangents, const std::vector<int>&,
             const Arrays& outputs) override {
    const auto dy = mx::contiguous(cotangents[0]);
    return {mx::array(primals[0].shape(), mx::float32,
                      std::make_shared<PoolGrad>(stream(), windows_, primals[0].shape()),
                      windows_.mean ? Arrays{dy} : Arrays{primals[0], outputs[0], dy})};
  }

  const char* name() const override { return "mlxcpp::Pool"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    return windows_ == static_cast<const Pool&>(other).windows_;
  }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override {
    return {windows_.output(in[0].shape())};
  }

 private:
  Windows windows_;
};

mx::array pool(const Windows& w, const mx::array& x) {
  if (x.ndim() != 4)
    throw Error("{}: expected [N, H, W, C], found [{}]", w.name(), fmt::join(x.shape(), ", "));
  for (int i = 0; i < 2; ++i)
    if (w.size[i] < 1 || w.stride[i] < 1 || w.size[i] > x.shape(1 + i))
      throw Error("{}: a window of {}x{} at a stride of {}x{} does not fit [{}]", w.name(),
                  w.size[0], w.size[1], w.stride[0], w.stride[1], fmt::join(x.shape(), ", "));
  const auto s = cpu_stream();
  if (!s || x.dtype() != mx::float32 || x.size() == 0) return plain(w, x);
  return mx::array(w.output(x.shape()), mx::float32, std::make_shared<Pool>(*s, w),
                   {mx::contiguous(x)});
}

}  // namespace

mx::array max_pool2d(const mx::array& x, std::array<int, 2> window, std::array<int, 2> stride) {
  return pool({window, stride, false}, x);
}

mx::array mean_pool2d(const mx::array& x, std::array<int, 2> window, std::array<int, 2> stride) {
  return pool({window, stride, true}, x);
}

}  // namespace mlxcpp::kernels

#include "kernels/softmax.h"

#include <cmath>

#include <mlx/backend/cpu/encoder.h>

#include "core/error.h"
#include "kernels/primitive.h"
#include "kernels/row_kernels.h"
#include "kernels/row_total.h"
#include "kernels/rows.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::kernels {
namespace {

class SoftmaxPrimitive final : public CpuPrimitive {
 public:
  SoftmaxPrimitive(mx::Stream s, bool log) : CpuPrimitive(s, plain(log)), log_(log) {}

  static Fallback plain(bool log) {
    return [log](const Arrays& in) -> Arrays {
      if (!log) return {mx::softmax(in[0], -1, /* precise */ true)};
      const auto x =
          mx::issubdtype(in[0].dtype(), mx::floating) ? mx::astype(in[0], mx::float32) : in[0];
      return {mx::astype(x - mx::logsumexp(x, -1, /* keepdims */ true), in[0].dtype())};
    };
  }

  void eval_cpu(const Arrays& in, Arrays& out) override {
    const mx::array& x = in[0];
    const Rows rows(x);
    allocate_or_take(out[0], x);
    auto& encoder = mx::cpu::get_command_encoder(stream());
    encoder.dispatch([=, &kernels = row_kernels(), log = log_, item = x.itemsize(),
                      type = static_cast<size_t>(*float_type(x.dtype())),
                      y = out[0].data<std::byte>()] {
      const size_t n = rows.length(), pieces = (n - 1) / kRowPiece + 1;
      const auto total = [&](size_t r, size_t begin, size_t m, RowBuffer& buffer) {
        float largest, sum;
        kernels.max_and_sum_exp[type](rows.read(r, begin, m, buffer), m, &largest, &sum);
        return std::pair(largest, sum);
      };
      const auto finish = [&](size_t r, size_t begin, size_t m, const RowTotal& t,
                              RowBuffer& buffer) {
        const void* from = rows.read(r, begin, m, buffer);
        void* to = y + (r * n + begin) * item;
        if (log)
          kernels.subtract[type](from, to, m, t.largest, static_cast<float>(std::log(t.sum)));
        else
          kernels.exp_shifted[type](from, to, m, t.largest, static_cast<float>(1 / t.sum));
      };
      if (pieces == 1) {
        parallel_for(rows.count(), row_grain(n), [&](size_t b, size_t e) {
          RowBuffer buffer;
          for (size_t r = b; r < e; ++r) {
            RowTotal t;
            const auto [largest, sum] = total(r, 0, n, buffer);
            t.add(largest, sum);
            finish(r, 0, n, t, buffer);
          }
        });
        return;
      }
      const auto each_piece = [&](auto f) {
        parallel_for(rows.count() * pieces, 1, [&](size_t b, size_t) {
          RowBuffer buffer;
          const size_t begin = b % pieces * kRowPiece;
          f(b / pieces, begin, std::min(kRowPiece, n - begin), b, buffer);
        });
      };
      std::vector<std::pair<float, float>> parts(rows.count() * pieces);
      each_piece([&](size_t r, size_t begin, size_t m, size_t i, RowBuffer& buffer) {
        parts[i] = total(r, begin, m, buffer);
      });
      std::vector<RowTotal> totals(rows.count());
      for (size_t i = 0; i < parts.size(); ++i)
        totals[i / pieces].add(parts[i].first, parts[i].second);
      each_piece([&](size_t r, size_t begin, size_t m, size_t, RowBuffer& buffer) {
        finish(r, begin, m, totals[r], buffer);
      });
    });
  }

  const char* name() const override { return log_ ? "mlxcpp::LogSoftmax" : "mlxcpp::Softmax"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    return log_ == static_cast<const SoftmaxPrimitive&>(other).log_;
  }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override { return {in[0].shape()}; }

 private:
  bool log_;
};

mx::array apply(const char* op, bool log, const mx::array& x) {
  if (x.ndim() == 0) throw Error("{}: expected at least one axis, found a scalar", op);
  const auto stream = cpu_stream();
  if (!stream || !float_type(x.dtype()) || x.size() == 0)
    return SoftmaxPrimitive::plain(log)({x})[0];
  return mx::array(x.shape(), x.dtype(), std::make_shared<SoftmaxPrimitive>(*stream, log), {x});
}

}  // namespace

mx::array softmax(const mx::array& x) { return apply("softmax", false, x); }
mx::array log_softmax(const mx::array& x) { return apply("log_softmax", true, x); }

}  // namespace mlxcpp::kernels

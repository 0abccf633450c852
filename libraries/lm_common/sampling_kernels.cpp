#include "lm_common/sampling_kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <mlx/backend/cpu/encoder.h>

#include "kernels/primitive.h"
#include "kernels/rows.h"

namespace mlxcpp {
namespace {

using kernels::Arrays;
using kernels::RowBuffer;
using kernels::Rows;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// One row of the nucleus: the most likely tokens, until their probabilities sum up to p, and what
// is as likely as the last of them. What is less likely than it sums up to at most n times its own
// probability, so all up to (1 - p) / n are out unseen.
void nucleus_row(const float* x, float* y, size_t n, float p) {
  std::fill_n(y, n, -kInfinity);
  struct Candidate {
    float logprob;
    uint32_t index;
  };
  std::vector<Candidate> candidates;
  const float least = std::log((1.0f - p) / static_cast<float>(n));
  for (size_t i = 0; i < n; ++i)
    if (x[i] > least) candidates.push_back({x[i], static_cast<uint32_t>(i)});
  if (candidates.empty())  // not normalised, or p next to 0
    candidates.push_back({0, static_cast<uint32_t>(std::max_element(x, x + n) - x)});
  const auto better = [](const Candidate& a, const Candidate& b) { return a.logprob > b.logprob; };
  // The nucleus is mostly small: the best are sorted first, and more as long as they do not do.
  double mass = 0;  // of what is more likely
  float last = kInfinity;
  for (size_t sorted = 0; sorted < candidates.size();) {
    const auto from = candidates.begin() + static_cast<std::ptrdiff_t>(sorted);
    sorted = std::min(candidates.size(), std::max<size_t>(64, 4 * sorted));
    const auto to = candidates.begin() + static_cast<std::ptrdiff_t>(sorted);
    std::nth_element(from, to - 1, candidates.end(), better);
    std::sort(from, to, better);
    for (auto c = from; c != to; ++c) {
      if (mass > 0 && mass >= p && c->logprob != last) return;  // the most likely always stays
      y[c->index] = x[c->index];
      last = c->logprob;
      mass += std::exp(static_cast<double>(c->logprob));
    }
  }
}

mx::array plain_nucleus(const mx::array& logprobs, float p) {
  const mx::array sorted = mx::sort(logprobs, -1);  // ascending
  const mx::array probabilities = mx::exp(mx::astype(sorted, mx::float32));
  const mx::array above = mx::cumsum(probabilities, -1, true, false);  // of what is more likely
  const mx::array most = mx::array(p) * mx::sum(probabilities, -1, true);
  // The most likely has nothing above it, so that one at least is left.
  const mx::array dropped = mx::sum(mx::greater_equal(above, most), -1, true);
  const mx::array least = mx::take_along_axis(sorted, dropped, -1);
  return mx::where(mx::less(logprobs, least), mx::array(-kInfinity, logprobs.dtype()), logprobs);
}

class Nucleus final : public kernels::CpuPrimitive {
 public:
  Nucleus(mx::Stream s, float p)
      : CpuPrimitive(s, [p](const Arrays& in) { return Arrays{plain_nucleus(in[0], p)}; }), p_(p) {}

  void eval_cpu(const Arrays& in, Arrays& out) override {
    out[0].set_data(mx::allocator::malloc(out[0].nbytes()));
    auto& encoder = mx::cpu::get_command_encoder(stream());
    encoder.dispatch([rows = Rows(in[0]), y = out[0].data<float>(), p = p_] {
      RowBuffer buffer;
      const size_t n = rows.length();
      for (size_t r = 0; r < rows.count(); ++r)
        nucleus_row(static_cast<const float*>(rows.read(r, buffer)), y + r * n, n, p);
    });
  }

  const char* name() const override { return "mlxcpp::Nucleus"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    return p_ == static_cast<const Nucleus&>(other).p_;
  }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override { return {in[0].shape()}; }

 private:
  float p_;
};

// The sum of up to kBlock weights, in lanes that the compiler can keep in one register.
constexpr size_t kBlock = 512, kLanes = 16;

double block_sum(const float* w, size_t n) {
  float lanes[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (size_t l = 0; l < kLanes; ++l) lanes[l] += w[i + l];
  double sum = 0;
  for (const float lane : lanes) sum += lane;
  for (; i < n; ++i) sum += w[i];
  return sum;
}

int32_t draw_row(const float* w, size_t n, float uniform) {
  std::vector<double> blocks;
  double total = 0;
  for (size_t i = 0; i < n; i += kBlock) {
    blocks.push_back(block_sum(w + i, std::min(kBlock, n - i)));
    total += blocks.back();
  }
  double left = uniform * total;
  size_t block = 0;
  while (block + 1 < blocks.size() && left >= blocks[block]) left -= blocks[block++];
  // Rounding may let the sum of single weights end before `left`: then the last that has weight.
  size_t found = 0;
  bool any = false;
  const auto look = [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      if (!(w[i] > 0)) continue;
      found = i;
      any = true;
      left -= w[i];
      if (left < 0) return;
    }
  };
  look(block * kBlock, std::min(n, (block + 1) * kBlock));
  if (!any) look(0, n);  // the block that rounding led to is empty
  return static_cast<int32_t>(found);
}

mx::array plain_draw(const mx::array& weights, const mx::array& uniform) {
  const mx::array sums = mx::cumsum(weights, -1);
  const int n = sums.shape(-1);
  const mx::array total = mx::slice(sums, {0, n - 1}, sums.shape());
  return mx::astype(mx::argmax(mx::greater(sums, mx::multiply(uniform, total)), -1), mx::int32);
}

class Draw final : public kernels::CpuPrimitive {
 public:
  explicit Draw(mx::Stream s)
      : CpuPrimitive(s, [](const Arrays& in) { return Arrays{plain_draw(in[0], in[1])}; }) {}

  void eval_cpu(const Arrays& in, Arrays& out) override {
    out[0].set_data(mx::allocator::malloc(out[0].nbytes()));
    auto& encoder = mx::cpu::get_command_encoder(stream());
    encoder.dispatch([rows = Rows(in[0]), uniform = Rows(in[1]), y = out[0].data<int32_t>()] {
      RowBuffer weights, number;
      for (size_t r = 0; r < rows.count(); ++r)
        y[r] = draw_row(static_cast<const float*>(rows.read(r, weights)), rows.length(),
                        *static_cast<const float*>(uniform.read(r, number)));
    });
  }

  const char* name() const override { return "mlxcpp::Draw"; }
  bool is_equivalent(const mx::Primitive&) const override { return true; }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override {
    return {mx::Shape{in[0].shape(0)}};
  }
};

}  // namespace

mx::array nucleus(const mx::array& logprobs, float p) {
  const auto stream = kernels::cpu_stream();
  if (!stream || logprobs.dtype() != mx::float32 || logprobs.size() == 0)
    return plain_nucleus(logprobs, p);
  return mx::array(logprobs.shape(), mx::float32, std::make_shared<Nucleus>(*stream, p),
                   {logprobs});
}

mx::array draw(const mx::array& weights, const mx::array& uniform) {
  const auto stream = kernels::cpu_stream();
  if (!stream || weights.dtype() != mx::float32 || uniform.dtype() != mx::float32 ||
      weights.size() == 0)
    return plain_draw(weights, uniform);
  return mx::array({weights.shape(0)}, mx::int32, std::make_shared<Draw>(*stream),
                   {weights, uniform});
}

}  // namespace mlxcpp

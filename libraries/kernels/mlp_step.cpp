#include "kernels/mlp_step.h"

#include "kernels/activations.h"
#include "kernels/row_kernels.h"
#include "kernels/rows.h"

namespace mlxcpp::kernels::step {
namespace {

// What a thread keeps for its next step.
struct Room {
  Floats normed, gate, up;
  Input::Room input, inner;
};
thread_local Room room;

}  // namespace

MlpPlan MlpPlan::make(const MlpPart& p, size_t hidden, Planner& planner) {
  MlpPlan plan{.frame = planner.frame(p.frame, hidden),
               .in = {},
               .activation = p.activation,
               .cutoff = p.cutoff,
               .inner_norm = {},
               .down = planner.linear(p.down)};
  require(plan.down.rows == hidden);
  require(p.in.size() == 1 || (p.in.size() == 2 && is_gated(p.activation)));
  const size_t rows = plan.down.cols * (p.in.size() == 1 && is_gated(p.activation) ? 2 : 1);
  for (const LinearPart& w : p.in) {
    plan.in.push_back(planner.linear(w));
    require(plan.in.back().rows == rows && plan.in.back().cols == hidden);
    require(!plan.in.back().ternary || p.in.size() == 2 || !is_gated(p.activation));
    require(plan.in.back().units() == plan.in.front().units());
  }
  plan.inner_norm = planner.norm(p.inner_norm, plan.down.cols);
  return plan;
}

void MlpPlan::run(const float* x, const float* residual, float* y, size_t m, size_t hidden,
                  Precision precision) const {
  Input normed(frame.normed(x, m, hidden, room.normed), m, hidden, precision, room.input);
  multiply(normed, y, precision);
  frame.finish(residual, y, m, hidden);
}

void MlpPlan::multiply(Input& x, float* y, Precision precision) const {
  for (const Linear& w : in) x.prepare(w);
  const size_t m = x.m(), width = down.cols;
  float* gate = room.gate.fit(m * width);
  float* up = room.up.fit(m * width);
  const bool gated = is_gated(activation), together = gated && in.size() == 1;
  const auto activate_row = [&](float* row, size_t at, size_t n) {
    activate(activation, row, gated ? up + at : row, n);
  };
  const Linear& first = in[0];
  if (x.whole(first) && x.whole(in.back())) {
    x.multiply(first, gate, width);
    if (gated) x.multiply(in[1], up, width);
    if (!cutoff)
      parallel_for(m, row_grain(width), [&](size_t begin, size_t end) {
        activate_row(gate + begin * width, begin * width, (end - begin) * width);
      });
  } else {
    const size_t units = together ? width : first.units();
    const size_t work = first.cols * m * (gated ? 2 : 1) * (width / units);
    parallel_for(units, quant::chunk_rows(units, work, m), [&](size_t begin, size_t end) {
      x.multiply(first, begin, end, gate, width);
      if (together)
        x.multiply(first, width + begin, width + end, up - width, width);
      else if (gated)
        x.multiply(in[1], begin, end, up, width);
      if (cutoff) return;  // it depends on all of the gates
      const auto apply = [&](size_t from, size_t to) {
        for (size_t at = from; at < m * width; at += width) activate_row(gate + at, at, to - from);
      };
      if (together)
        apply(begin, end);
      else
        first.ranges(begin, end, apply);
    });
  }
  if (cutoff)
    for (size_t at = 0; at < m * width; at += width) {
      keep_largest(gate + at, gate + at, width, *cutoff);
      activate_row(gate + at, at, width);
    }
  if (inner_norm) inner_norm->rows(gate, gate, m, width);
  Input activated(gate, m, width, precision, room.inner);
  step::multiply(down, activated, y);
}

void add_to(Signature& s, const MlpPart& p) {
  s.frame(p.frame);
  s.number(static_cast<int>(p.activation));
  s.linears(p.in);
  s.number(p.cutoff.has_value());
  s.number(p.cutoff.value_or(0.0f));
  s.norm(p.inner_norm);
  s.linear(p.down);
}

}  // namespace mlxcpp::kernels::step

#include "kernels/moe_step.h"

#include <cstring>
#include <numeric>

namespace mlxcpp::kernels {

void add_weighed(const float* x, float weight, float* sum, size_t n) {
  for (size_t j = 0; j < n; ++j) sum[j] += weight * x[j];
}

namespace step {
namespace {

// What a thread keeps for its next step.
struct Room {
  Floats normed, logits, weights, gathered, gate, up, answers, shared;
  Input::Room input, rows, inner;
  std::vector<uint32_t> experts, order, place;
};
thread_local Room room;

// Rows of one expert, in the order of `order`.
struct Segment {
  uint32_t expert;
  size_t first, count;
};

}  // namespace

MoePlan MoePlan::make(const MoePart& p, size_t hidden, Planner& planner) {
  MoePlan plan{.frame = planner.frame(p.frame, hidden),
               .router = planner.linear(p.router),
               .choice = p.choice,
               .gate = planner.stack(p.gate),
               .up = planner.stack(p.up),
               .down = planner.stack(p.down),
               .activation = p.activation};
  const size_t width = plan.down.cols();
  require(p.choice && p.choice->experts() > 0 && p.choice->chosen() > 0 && is_gated(p.activation));
  const auto count = static_cast<size_t>(p.choice->experts());
  require(plan.router.rows == count && plan.router.cols == hidden);
  plan.correction_bias = planner.vector(p.correction_bias, count);
  for (const Stack* s : {&plan.gate, &plan.up})
    require(s->count == count && s->rows == width && s->cols() == hidden);
  require(plan.down.count == count && plan.down.rows == hidden);
  if (!p.shared) return plan;
  const MlpPart& s = *p.shared;  // no others are tested here
  require(s.in.size() == 2 && is_gated(s.activation) && !s.inner_norm && !s.down.ternary);
  for (const LinearPart& w : s.in) require(!w.ternary);
  plan.shared = MlpPlan::make(s, hidden, planner);
  return plan;
}

void MoePlan::run(const float* x, const float* residual, float* y, size_t m, size_t hidden,
                  Precision precision) const {
  const size_t experts = router.rows, k = choice->chosen(), width = down.cols(), rows = m * k;
  const float* h = frame.normed(x, m, hidden, room.normed);
  Input in(h, m, hidden, precision, room.input);
  float* logits = room.logits.reserve(m * experts);
  multiply(router, in, logits);
  room.experts.resize(rows);
  float* weights = room.weights.reserve(rows);
  choice->choose(logits, correction_bias.empty() ? nullptr : correction_bias.data(), m,
                 room.experts.data(), weights);

  // Rows of one expert together, so that its weights are read once.
  const auto& chosen = room.experts;
  auto& order = room.order;
  order.resize(rows);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](uint32_t a, uint32_t b) { return chosen[a] < chosen[b]; });
  room.place.resize(rows);
  std::vector<Segment> segments;
  segments.reserve(rows);
  for (size_t i = 0; i < rows; ++i) {
    room.place[order[i]] = static_cast<uint32_t>(i);
    if (segments.empty() || segments.back().expert != chosen[order[i]])
      segments.push_back({chosen[order[i]], i, 0});
    ++segments.back().count;
  }

  // The one row is the same for all; several are laid out in that order.
  const bool one = m == 1;
  if (!one) {
    float* gathered = room.gathered.reserve(rows * hidden);
    for (size_t i = 0; i < rows; ++i)
      std::memcpy(gathered + i * hidden, h + order[i] / k * hidden, hidden * sizeof(float));
  }
  Input ordered(one ? h : room.gathered.data(), one ? 1 : rows, hidden, precision, room.rows);
  Input& from = one ? in : ordered;
  from.prepare(gate.type, gate.first);
  from.prepare(up.type, up.first);
  float* gates = room.gate.reserve(rows * width);
  float* ups = room.up.reserve(rows * width);
  for_chunks(segments.size(), width, 2 * hidden * rows / segments.size(),
             [&](size_t job, size_t begin, size_t end) {
               const Segment& s = segments[job];
               const size_t first = one ? 0 : s.first;
               float *g = gates + s.first * width, *u = ups + s.first * width;
               from.multiply(gate.type, gate.at(s.expert), first, s.count, begin, end, g, width);
               from.multiply(up.type, up.at(s.expert), first, s.count, begin, end, u, width);
               for (size_t i = 0; i < s.count; ++i)
                 activate(activation, g + i * width + begin, u + i * width + begin, end - begin);
             });
  Input inner(gates, rows, width, precision, room.inner);
  inner.prepare(down.type, down.first);
  float* answers = room.answers.reserve(rows * hidden);
  for_chunks(segments.size(), hidden, width * rows / segments.size(),
             [&](size_t job, size_t begin, size_t end) {
               const Segment& s = segments[job];
               inner.multiply(down.type, down.at(s.expert), s.first, s.count, begin, end,
                              answers + s.first * hidden, hidden);
             });

  for (size_t t = 0; t < m; ++t) {
    float* sum = y + t * hidden;
    std::fill_n(sum, hidden, 0.0f);
    for (size_t i = t * k; i < (t + 1) * k; ++i)
      add_weighed(answers + room.place[i] * hidden, weights[i], sum, hidden);
  }

  if (shared) {
    float* answer = room.shared.reserve(m * hidden);
    shared->multiply(in, answer, precision);
    for (size_t i = 0; i < m * hidden; ++i) y[i] = y[i] + answer[i];
  }
  frame.finish(residual, y, m, hidden);
}

void add_to(Signature& s, const MoePart& p) {
  s.frame(p.frame);
  s.linear(p.router);
  s.address(p.choice.get());
  s.array(p.correction_bias);
  for (const QuantizedMatrix* w : {&p.gate, &p.up, &p.down}) s.matrix(*w);
  s.number(static_cast<int>(p.activation));
  s.number(p.shared.has_value());
  if (p.shared) add_to(s, *p.shared);
}

}  // namespace step
}  // namespace mlxcpp::kernels

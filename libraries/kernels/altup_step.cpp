#include "kernels/altup_step.h"

#include <cmath>
#include <cstring>

namespace mlxcpp::kernels::step {
namespace {

// What a thread keeps for its next step.
struct Room {
  Floats normed, modalities, coefs, mixed, predictions, active, activated, left, right, first, gate,
      own;
  Input::Room router, coefs_input, left_input, right_input, gate_input, own_input;
};
thread_local Room room;

}  // namespace

AltUpPlan AltUpPlan::make(const AltUpPart& p, size_t hidden, Planner& planner) {
  require(p.inputs > 0 && p.active >= 0 && p.active < p.inputs && is_gated(p.activation));
  AltUpPlan plan{.inputs = static_cast<size_t>(p.inputs),
                 .active = static_cast<size_t>(p.active),
                 .router_norm = *planner.norm(p.router_norm, hidden),
                 .router = planner.linear(p.router),
                 .prediction = planner.linear(p.prediction),
                 .correction = planner.linear(p.correction),
                 .laurel_left = planner.linear(p.laurel_left),
                 .laurel_right = planner.linear(p.laurel_right),
                 .laurel_norm = *planner.norm(p.laurel_norm, hidden),
                 .output_scale = planner.vector(p.output_scale, hidden),
                 .gate = planner.linear(p.gate),
                 .projection = planner.linear(p.projection),
                 .activation = p.activation,
                 .projection_norm = *planner.norm(p.projection_norm, hidden)};
  const auto fits = [](const Linear& w, size_t rows, size_t cols) {
    return w.rows == rows && w.cols == cols;
  };
  const size_t n = plan.inputs;
  require(fits(plan.router, n, hidden) && fits(plan.prediction, n * n, n) &&
          fits(plan.correction, n, n));
  require(fits(plan.laurel_left, plan.laurel_right.cols, hidden) &&
          plan.laurel_right.rows == hidden);
  require(fits(plan.gate, plan.projection.cols, hidden) && plan.projection.rows == hidden);
  return plan;
}

const float* AltUpPlan::modalities(const float* x, size_t m, size_t hidden,
                                   Precision precision) const {
  float* normed = room.normed.reserve(m * hidden);
  router_norm.rows(x, normed, m, hidden);
  const float scale = 1.0f / static_cast<float>(hidden);
  for (size_t i = 0; i < m * hidden; ++i) normed[i] *= scale;
  Input in(normed, m, hidden, precision, room.router);
  float* y = room.modalities.reserve(m * inputs);
  multiply(router, in, y);
  for (size_t i = 0; i < m * inputs; ++i) y[i] = std::tanh(y[i]);
  return y;
}

void AltUpPlan::run(const LayerPlan::Step& s, size_t hidden, const Active& active_stream) const {
  const size_t m = static_cast<size_t>(s.batch) * s.length, width = inputs * hidden;

  float* x = room.active.reserve(m * hidden);
  for (size_t i = 0; i < m; ++i)
    std::memcpy(x + i * hidden, s.x + i * width + active * hidden, hidden * sizeof(float));
  {
    Input in(modalities(x, m, hidden, s.precision), m, inputs, s.precision, room.coefs_input);
    multiply(prediction, in, room.coefs.reserve(m * inputs * inputs));
  }
  float* predictions = room.predictions.reserve(m * width);
  float* mixed = room.mixed.reserve(width);
  for (size_t i = 0; i < m; ++i) {
    const float* streams = s.x + i * width;
    const auto n = static_cast<ptrdiff_t>(inputs), h = static_cast<ptrdiff_t>(hidden);
    matmul_run({room.coefs.data() + i * inputs * inputs, FloatType::f32, n, 1},
               {streams, FloatType::f32, 1, h}, nullptr, mixed, FloatType::f32, inputs, hidden,
               inputs);
    for (size_t j = 0; j < width; ++j) predictions[i * width + j] = streams[j] + mixed[j];
  }
  for (size_t i = 0; i < m; ++i)
    std::memcpy(x + i * hidden, predictions + i * width + active * hidden, hidden * sizeof(float));

  float* activated = room.activated.reserve(m * hidden);
  active_stream(x, activated);

  {
    Input in(modalities(activated, m, hidden, s.precision), m, inputs, s.precision,
             room.coefs_input);
    multiply(correction, in, room.coefs.reserve(m * inputs));
  }
  float* first = room.first.reserve(m * hidden);
  for (size_t i = 0; i < m; ++i) {
    float* innovation = first + i * hidden;
    for (size_t j = 0; j < hidden; ++j)
      innovation[j] = activated[i * hidden + j] - x[i * hidden + j];
    for (size_t k = 0; k < inputs; ++k) {
      const float coef = room.coefs.data()[i * inputs + k] + 1.0f;
      const float* from = predictions + i * width + k * hidden;
      float* to = s.y + i * width + k * hidden;
      for (size_t j = 0; j < hidden; ++j) to[j] = from[j] + innovation[j] * coef;
    }
  }
  for (size_t i = 0; i < m; ++i) {
    const float* from = s.y + i * width + active * hidden;
    float* to = first + i * hidden;
    for (size_t j = 0; j < hidden; ++j)
      to[j] = output_scale.empty() ? from[j] : from[j] * output_scale[j];
  }
  Input in(first, m, hidden, s.precision, room.gate_input);
  float* gated = room.gate.reserve(m * gate.rows);
  multiply(gate, in, gated);
  activate(activation, gated, s.per_layer, m * gate.rows);
  Input own_input(gated, m, gate.rows, s.precision, room.own_input);
  float* own = room.own.reserve(m * hidden);
  multiply(projection, own_input, own);
  for (size_t i = 0; i < m; ++i) {
    float* add = own + i * hidden;
    projection_norm.run(add, add, hidden);
    for (size_t k = 1; k < inputs; ++k) {
      float* to = s.y + i * width + k * hidden;
      for (size_t j = 0; j < hidden; ++j) to[j] = to[j] + add[j];
    }
  }
}

void AltUpPlan::add_laurel(const float* normed, float* h, size_t m, size_t hidden,
                           Precision precision) const {
  Input in(normed, m, hidden, precision, room.left_input);
  float* left = room.left.reserve(m * laurel_left.rows);
  multiply(laurel_left, in, left);
  Input right_input(left, m, laurel_left.rows, precision, room.right_input);
  float* right = room.right.reserve(m * hidden);
  multiply(laurel_right, right_input, right);
  const auto half = static_cast<float>(M_SQRT1_2);
  for (size_t i = 0; i < m; ++i) {
    float* branch = right + i * hidden;
    laurel_norm.run(branch, branch, hidden);
    for (size_t j = 0; j < hidden; ++j) branch[j] = normed[i * hidden + j] + branch[j];
    for (size_t j = 0; j < hidden; ++j) h[i * hidden + j] = (h[i * hidden + j] + branch[j]) * half;
  }
}

void add_to(Signature& s, const AltUpPart& p) {
  for (const int n : {p.inputs, p.active, static_cast<int>(p.activation)}) s.number(n);
  for (const NormPart* norm : {&p.router_norm, &p.laurel_norm, &p.projection_norm}) s.norm(*norm);
  for (const LinearPart* w : {&p.router, &p.prediction, &p.correction, &p.laurel_left,
                              &p.laurel_right, &p.gate, &p.projection})
    s.linear(*w);
  s.array(p.output_scale);
}

}  // namespace mlxcpp::kernels::step

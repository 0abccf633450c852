#include "kernels/latent_step.h"

#include <cstring>

namespace mlxcpp::kernels::step {
namespace {

// What a thread keeps for its next step.
struct Room {
  Floats normed, down, compressed, queries, nope, embedded, heads, latent, attended, joined;
  Input::Room input, up, nope_input, attended_input, out;
};
thread_local Room room;

// Rows [count] of each of `heads` heads, one head after the other, through the head's own matrix:
// y[head * y_head + i * ldy + row].
void per_head(const Stack& w, Input& in, size_t count, float* y, size_t y_head, size_t ldy) {
  in.prepare(w.type, w.first);
  for_chunks(w.count, w.rows, w.cols() * count, [&](size_t head, size_t begin, size_t end) {
    in.multiply(w.type, w.at(head), head * count, count, begin, end, y + head * y_head, ldy);
  });
}

}  // namespace

LatentPlan LatentPlan::make(const LatentPart& p, size_t hidden, Planner& planner) {
  for (const int n : {p.heads, p.nope_dim, p.rope_dim, p.rank, p.value_dim}) require(n > 0);
  LatentPlan plan{.frame = planner.frame(p.frame, hidden),
                  .heads = static_cast<size_t>(p.heads),
                  .nope = static_cast<size_t>(p.nope_dim),
                  .rope = static_cast<size_t>(p.rope_dim),
                  .rank = static_cast<size_t>(p.rank),
                  .value_dim = static_cast<size_t>(p.value_dim),
                  .embed_q = planner.stack(p.embed_q),
                  .unembed_out = planner.stack(p.unembed_out)};
  const size_t width = plan.heads * (plan.nope + plan.rope);
  require(p.q.size() == (p.q_norm ? 2 : 1));
  plan.down = {planner.linear(p.q[0]), planner.linear(p.kv)};
  for (const Linear& w : plan.down) require(w.cols == hidden && !w.ternary);
  require(plan.down[1].rows == plan.rank + plan.rope);
  if (p.q_norm) {
    plan.q_norm = planner.norm(p.q_norm, plan.down[0].rows);
    plan.q_up = planner.linear(p.q[1]);
    require(plan.q_up->cols == plan.down[0].rows);
  }
  require((plan.q_up ? plan.q_up->rows : plan.down[0].rows) == width);
  plan.latent_norm = *planner.norm(p.latent_norm, plan.rank);
  const auto fits = [&](const Stack& s, size_t rows, size_t cols) {
    return s.count == plan.heads && s.rows == rows && s.cols() == cols;
  };
  require(fits(plan.embed_q, plan.rank, plan.nope));
  require(fits(plan.unembed_out, plan.value_dim, plan.rank));
  plan.out = planner.linear(p.out);
  require(plan.out.rows == hidden && plan.out.cols == plan.heads * plan.value_dim);
  return plan;
}

void LatentPlan::run(const LayerPlan::Step& s, const LayerPlan::Attend& attend, size_t hidden,
                     float* y) const {
  const size_t m = static_cast<size_t>(s.batch) * s.length, q_rows = down[0].rows,
               ld = q_rows + rank + rope, width = heads * (nope + rope), dim = rank + rope;
  Input in(frame.normed(s.x, m, hidden, room.normed), m, hidden, s.precision, room.input);
  float* both = room.down.reserve(m * ld);
  multiply(down, in, both, ld);

  const float* queries = both;
  size_t query_row = ld;
  if (q_up) {
    float* compressed = room.compressed.reserve(m * q_rows);
    for (size_t i = 0; i < m; ++i) q_norm->run(both + i * ld, compressed + i * q_rows, q_rows);
    Input up(compressed, m, q_rows, s.precision, room.up);
    float* q = room.queries.reserve(m * width);
    multiply(*q_up, up, q);
    queries = q;
    query_row = width;
  }

  // Queries of the latent space, beside those that turn: [m, heads, rank + rope].
  float* nopes = room.nope.reserve(heads * m * nope);
  float* q = room.heads.reserve(m * heads * dim);
  for (size_t h = 0; h < heads; ++h)
    for (size_t i = 0; i < m; ++i) {
      const float* from = queries + i * query_row + h * (nope + rope);
      std::memcpy(nopes + (h * m + i) * nope, from, nope * sizeof(float));
      std::memcpy(q + (i * heads + h) * dim + rank, from + nope, rope * sizeof(float));
    }
  Input nope_input(nopes, heads * m, nope, s.precision, room.nope_input);
  per_head(embed_q, nope_input, m, q, dim, heads * dim);

  float* latent = room.latent.reserve(m * dim);
  for (size_t i = 0; i < m; ++i) {
    const float* from = both + i * ld + q_rows;
    latent_norm.run(from, latent + i * dim, rank);
    std::memcpy(latent + i * dim + rank, from + rank, rope * sizeof(float));
    rotate(s, i, {{q + i * heads * dim + rank, heads, dim}, {latent + i * dim + rank, 1, 0}});
  }

  float* attended = room.attended.reserve(heads * m * rank);
  attend({{q, heads * dim, dim}, {latent, dim, 0}, {latent + rank, dim, 0}}, attended);
  Input attended_input(attended, heads * m, rank, s.precision, room.attended_input);
  float* joined = room.joined.reserve(m * out.cols);
  per_head(unembed_out, attended_input, m, joined, value_dim, out.cols);
  Input last(joined, m, out.cols, s.precision, room.out);
  multiply(out, last, y);
  frame.finish(s.residual, y, m, hidden);
}

void add_to(Signature& s, const LatentPart& p) {
  s.frame(p.frame);
  for (const int n : {p.heads, p.nope_dim, p.rope_dim, p.rank, p.value_dim}) s.number(n);
  s.linears(p.q);
  s.norm(p.q_norm);
  s.linear(p.kv);
  s.norm(p.latent_norm);
  s.matrix(p.embed_q);
  s.matrix(p.unembed_out);
  s.linear(p.out);
}

}  // namespace mlxcpp::kernels::step

// Multi-head latent attention (arXiv 2405.04434) within a step (decoder_step.h).
#pragma once

#include "kernels/step_parts.h"

namespace mlxcpp::kernels::step {

struct LatentPlan {
  Frame frame;
  size_t heads = 0, nope = 0, rope = 0, rank = 0, value_dim = 0;
  std::vector<Linear> down;    // of x: to the queries (or what they are made of), and the latent
  std::optional<Norm> q_norm;  // then q_up
  std::optional<Linear> q_up;
  Norm latent_norm;
  Stack embed_q, unembed_out;
  Linear out;

  static LatentPlan make(const LatentPart& p, size_t hidden, Planner& planner);

  void run(const LayerPlan::Step& s, const LayerPlan::Attend& attend, size_t hidden,
           float* y) const;
};

void add_to(Signature& s, const LatentPart& p);

}  // namespace mlxcpp::kernels::step

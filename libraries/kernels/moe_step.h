// A mixture of experts within a step (decoder_step.h): router, choice, chosen experts, their
// weighed sum, and the shared expert.
#pragma once

#include <memory>
#include <optional>

#include "kernels/mlp_step.h"

namespace mlxcpp::kernels::step {

struct MoePlan {
  Frame frame;
  Linear router;
  std::shared_ptr<const ExpertChoice> choice;
  std::vector<float> correction_bias;  // empty: none
  Stack gate, up, down;
  Activation activation = Activation::swiglu;
  std::optional<MlpPlan> shared;

  static MoePlan make(const MoePart& p, size_t hidden, Planner& planner);

  // y [m, hidden] = residual + frame(experts(x))
  void run(const float* x, const float* residual, float* y, size_t m, size_t hidden,
           Precision precision) const;
};

void add_to(Signature& s, const MoePart& p);

}  // namespace mlxcpp::kernels::step

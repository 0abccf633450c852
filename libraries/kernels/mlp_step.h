// An MLP within a step (decoder_step.h): that of a layer, or the expert that all tokens share.
#pragma once

#include <optional>
#include <vector>

#include "kernels/step_parts.h"

namespace mlxcpp::kernels::step {

struct MlpPlan {
  Frame frame;
  std::vector<Linear> in;
  Activation activation = Activation::swiglu;
  std::optional<float> cutoff;
  std::optional<Norm> inner_norm;
  Linear down;

  static MlpPlan make(const MlpPart& p, size_t hidden, Planner& planner);

  // y [m, hidden] = residual + frame(mlp(x))
  void run(const float* x, const float* residual, float* y, size_t m, size_t hidden,
           Precision precision) const;
  // y [m, hidden] = mlp(x), without the frame; x [m, hidden] as products take it.
  void multiply(Input& x, float* y, Precision precision) const;
};

void add_to(Signature& s, const MlpPart& p);

}  // namespace mlxcpp::kernels::step

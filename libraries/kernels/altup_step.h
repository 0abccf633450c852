// Gemma 3n's streams around attention and MLP within a step (decoder_step.h, AltUpPart).
#pragma once

#include "kernels/step_parts.h"

namespace mlxcpp::kernels::step {

struct AltUpPlan {
  size_t inputs = 0, active = 0;
  Norm router_norm;
  Linear router, prediction, correction, laurel_left, laurel_right;
  Norm laurel_norm;
  std::vector<float> output_scale;  // empty: none
  Linear gate, projection;
  Activation activation = Activation::geglu_approx;
  Norm projection_norm;

  static AltUpPlan make(const AltUpPart& p, size_t hidden, Planner& planner);

  // What `active` makes of the active stream, x -> y [m, hidden], among all of them.
  using Active = std::function<void(const float* x, float* y)>;
  void run(const LayerPlan::Step& s, size_t hidden, const Active& active_stream) const;
  // h = (h + normed + laurel(normed)) / sqrt(2)
  void add_laurel(const float* normed, float* h, size_t m, size_t hidden,
                  Precision precision) const;

 private:
  // Of rows x [m, hidden]: [m, inputs], between -1 and 1.
  const float* modalities(const float* x, size_t m, size_t hidden, Precision precision) const;
};

void add_to(Signature& s, const AltUpPart& p);

}  // namespace mlxcpp::kernels::step

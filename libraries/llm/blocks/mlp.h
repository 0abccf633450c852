#pragma once

#include "kernels/decoder_step.h"
#include "llm/blocks/config.h"
#include "nn/activations.h"
#include "nn/linear.h"
#include "nn/norm.h"

namespace mlxcpp::llm {

namespace mx = mlx::core;

// An activation as kernels name it; none: they have none.
std::optional<kernels::Activation> gated_kernel(const nn::GatedActivation& act);

// down(act(gate(x)) * up(x)): SwiGLU and its kin (arXiv 2002.05202).
class GatedMLP : public nn::Layer {
 public:
  // hidden_act is the config's name of the activation (nn::activation_names()).
  GatedMLP(int hidden_size, int intermediate_size, const std::string& hidden_act, bool bias = false,
           const DecoderNames& names = {});

  mx::array operator()(const mx::array& x) const override;

  // For a layer's step as one operation, with an empty frame; none where it must go operation by
  // operation.
  std::optional<kernels::MlpPart> step_part() const;

 private:
  const nn::GatedActivation act_;

 public:
  nn::Child<nn::Linear> gate_proj, up_proj, gate_up_proj;  // two, or one
  nn::Child<nn::RMSNorm> inner_norm;  // of what the last projection gets; by default none
  nn::Child<nn::Linear> down_proj;
};

// down(act(up(x))).
class MLP : public nn::Layer {
 public:
  explicit MLP(const DecoderConfig& c);

  mx::array operator()(const mx::array& x) const override { return down_proj(act_(up_proj(x))); }

  std::optional<kernels::MlpPart> step_part() const;  // as GatedMLP's

 private:
  const nn::ActivationFn act_;

 public:
  nn::Child<nn::Linear> up_proj, down_proj;
};

}  // namespace mlxcpp::llm

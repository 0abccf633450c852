#pragma once

#include "llm/blocks/config.h"
#include "nn/activations.h"
#include "nn/linear.h"

namespace mlxcpp::llm {

namespace mx = mlx::core;

// down(act(gate(x)) * up(x)): SwiGLU and its kin (arXiv 2002.05202).
class GatedMLP : public nn::Module {
 public:
  // hidden_act is the config's name of the activation (nn::activation_names()).
  GatedMLP(int hidden_size, int intermediate_size, const std::string& hidden_act,
           bool bias = false);

  mx::array operator()(const mx::array& x) const;

 private:
  const nn::GatedActivation act_;

 public:
  nn::Child<nn::Linear> gate_proj, up_proj, down_proj;
};

}  // namespace mlxcpp::llm

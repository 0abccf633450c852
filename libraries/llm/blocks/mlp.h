#pragma once

#include "llm/blocks/config.h"
#include "nn/linear.h"

namespace mlxcpp::llm {

namespace mx = mlx::core;

// down(act(gate(x)) * up(x)): SwiGLU and its kin (arXiv 2002.05202).
class GatedMLP : public nn::Layer {
 public:
  // hidden_act is the config's name of the activation: silu, gelu, gelu_pytorch_tanh, ...; unknown
  // ones throw.
  GatedMLP(int hidden_size, int intermediate_size, const std::string& hidden_act, bool bias = false,
           const DecoderNames& names = {});

  mx::array operator()(const mx::array& x) const override;

 private:
  using Gated = mx::array (*)(const mx::array& gate, const mx::array& up);
  const Gated act_;

 public:
  nn::Child<nn::Linear> gate_proj, up_proj, down_proj;
};

}  // namespace mlxcpp::llm

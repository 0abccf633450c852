#pragma once

#include <mlx/mlx.h>

namespace mlxcpp::kernels {

namespace mx = mlx::core;

// Gated activations in one pass over memory; gate and up of one shape. Differentiable.
mx::array swiglu(const mx::array& gate, const mx::array& up);  // silu(gate) * up
mx::array geglu(const mx::array& gate, const mx::array& up);   // gelu(gate) * up, erf form
mx::array geglu_approx(const mx::array& gate,
                       const mx::array& up);  // tanh form (gelu_pytorch_tanh)

// Element-wise.
mx::array silu(const mx::array& x);
mx::array gelu(const mx::array& x);         // erf
mx::array gelu_approx(const mx::array& x);  // tanh
mx::array tanh(const mx::array& x);
mx::array sigmoid(const mx::array& x);
mx::array relu(const mx::array& x);

}  // namespace mlxcpp::kernels

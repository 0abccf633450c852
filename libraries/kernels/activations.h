#pragma once

#include <mlx/mlx.h>

namespace mlxcpp::kernels {

namespace mx = mlx::core;

// Gated activations in one pass over memory; gate and up of one shape. Differentiable.
mx::array swiglu(const mx::array& gate, const mx::array& up);  // silu(gate) * up
mx::array geglu(const mx::array& gate, const mx::array& up);   // gelu(gate) * up, erf form
mx::array geglu_approx(const mx::array& gate,
                       const mx::array& up);                      // tanh form (gelu_pytorch_tanh)
mx::array relu2_glu(const mx::array& gate, const mx::array& up);  // relu2(gate) * up

// Element-wise.
mx::array silu(const mx::array& x);
mx::array gelu(const mx::array& x);         // erf
mx::array gelu_approx(const mx::array& x);  // tanh
mx::array tanh(const mx::array& x);
mx::array sigmoid(const mx::array& x);
mx::array relu(const mx::array& x);
mx::array relu2(const mx::array& x);  // max(x, 0)^2

// What stands out of each row (last axis): max(x - (mean + cutoff * deviation), 0), deviation being
// the root of the mean squared distance from the mean (Gemma 3n's sparse gates). Differentiable.
mx::array keep_largest(const mx::array& x, float cutoff);
// The same of one row; y may be x.
void keep_largest(const float* x, float* y, size_t n, float cutoff);

}  // namespace mlxcpp::kernels

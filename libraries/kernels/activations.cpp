#include "kernels/activations.h"

#include <cmath>

namespace mlxcpp::kernels {

mx::array silu(const mx::array& x) { return x * mx::sigmoid(x); }

mx::array gelu(const mx::array& x) {
  const auto half = mx::array(0.5f, x.dtype()), one = mx::array(1.0f, x.dtype());
  return x * half * (one + mx::erf(x * mx::array(static_cast<float>(M_SQRT1_2), x.dtype())));
}

mx::array gelu_approx(const mx::array& x) {
  const auto k = [&](double v) { return mx::array(static_cast<float>(v), x.dtype()); };
  const auto inner = k(std::sqrt(2 / M_PI)) * (x + k(0.044715) * x * x * x);
  return k(0.5) * x * (k(1) + mx::tanh(inner));
}

mx::array swiglu(const mx::array& gate, const mx::array& up) { return silu(gate) * up; }
mx::array geglu(const mx::array& gate, const mx::array& up) { return gelu(gate) * up; }
mx::array geglu_approx(const mx::array& gate, const mx::array& up) {
  return gelu_approx(gate) * up;
}

}  // namespace mlxcpp::kernels

#include "nn/activations.h"

#include <array>

#include <fmt/ranges.h>

#include "kernels/activations.h"

namespace mlxcpp::nn {
namespace {

// A constant in x's dtype, so that bf16 stays bf16.
mx::array like(const mx::array& x, double value) {
  return mx::array(static_cast<float>(value), x.dtype());
}

struct NamedActivation {
  std::string_view name;
  ActivationFn function;
};

// transformers' names (ACT2FN) of what mlx.nn has.
constexpr std::array kActivations = {
    NamedActivation{"silu", silu},
    NamedActivation{"swish", silu},
    NamedActivation{"gelu", gelu},
    NamedActivation{"gelu_new", gelu_approx},
    NamedActivation{"gelu_fast", gelu_approx},
    NamedActivation{"gelu_pytorch_tanh", gelu_approx},
    NamedActivation{"gelu_accurate", gelu_approx},
    NamedActivation{"gelu_approx", gelu_approx},
    NamedActivation{"quick_gelu", gelu_fast_approx},
    NamedActivation{"relu", relu},
    NamedActivation{"relu2", relu2},
    NamedActivation{"relu6", relu6},
    NamedActivation{"mish", mish},
    NamedActivation{"hardswish", hardswish},
    NamedActivation{"hard_swish", hardswish},
    NamedActivation{"hardsigmoid", hardsigmoid},
    NamedActivation{"sigmoid", sigmoid},
    NamedActivation{"tanh", tanh},
    NamedActivation{"softplus", softplus},
    NamedActivation{"linear", [](const mx::array& x) { return x; }},
};

}  // namespace

mx::array relu(const mx::array& x) { return kernels::relu(x); }
mx::array relu2(const mx::array& x) { return kernels::relu2(x); }
mx::array relu6(const mx::array& x) { return mx::minimum(relu(x), like(x, 6)); }

mx::array leaky_relu(const mx::array& x, float negative_slope) {
  return mx::maximum(like(x, negative_slope) * x, x);
}

mx::array elu(const mx::array& x, float alpha) {
  // Of min(x, 0): e^x of a large x would be infinite, and its gradient not a number.
  const auto below = like(x, alpha) * mx::expm1(mx::minimum(x, like(x, 0)));
  return mx::where(mx::greater(x, like(x, 0)), x, below);
}

mx::array selu(const mx::array& x) { return elu(x, 1.67326f) * like(x, 1.0507); }

mx::array celu(const mx::array& x, float alpha) {
  const auto below = mx::expm1(mx::minimum(x, like(x, 0)) / like(x, alpha));
  return relu(x) + like(x, alpha) * below;
}

mx::array silu(const mx::array& x) { return kernels::silu(x); }
mx::array gelu(const mx::array& x) { return kernels::gelu(x); }
mx::array gelu_approx(const mx::array& x) { return kernels::gelu_approx(x); }
mx::array gelu_fast_approx(const mx::array& x) { return x * mx::sigmoid(like(x, 1.702) * x); }
mx::array mish(const mx::array& x) { return x * mx::tanh(softplus(x)); }
mx::array hardsigmoid(const mx::array& x) { return relu6(x + like(x, 3)) / like(x, 6); }
mx::array hardswish(const mx::array& x) { return x * hardsigmoid(x); }

mx::array hard_tanh(const mx::array& x, float min_value, float max_value) {
  return mx::clip(x, like(x, min_value), like(x, max_value));
}

mx::array hard_shrink(const mx::array& x, float lambda) {
  return mx::where(mx::greater(mx::abs(x), like(x, lambda)), x, like(x, 0));
}

mx::array softshrink(const mx::array& x, float lambda) {
  const auto shrunk = x - mx::sign(x) * like(x, lambda);
  return mx::where(mx::greater(mx::abs(x), like(x, lambda)), shrunk, like(x, 0));
}

mx::array softplus(const mx::array& x) { return mx::logaddexp(x, like(x, 0)); }
mx::array softsign(const mx::array& x) { return x / (like(x, 1) + mx::abs(x)); }
mx::array sigmoid(const mx::array& x) { return kernels::sigmoid(x); }
mx::array log_sigmoid(const mx::array& x) { return mx::negative(softplus(mx::negative(x))); }
mx::array tanh(const mx::array& x) { return kernels::tanh(x); }

mx::array step(const mx::array& x, float threshold) {
  return mx::astype(mx::greater_equal(x, like(x, threshold)), x.dtype());
}

mx::array prelu(const mx::array& x, const mx::array& alpha) {
  return relu(x) + alpha * mx::minimum(x, like(x, 0));
}

mx::array softmax(const mx::array& x, int axis) { return mx::softmax(x, axis); }
mx::array log_softmax(const mx::array& x, int axis) { return x - mx::logsumexp(x, axis, true); }
mx::array softmin(const mx::array& x, int axis) { return mx::softmax(mx::negative(x), axis); }

mx::array glu(const mx::array& x, int axis) {
  const auto halves = mx::split(x, 2, axis);
  return halves[0] * mx::sigmoid(halves[1]);
}

ActivationFn activation_from_name(std::string_view name) {
  for (const NamedActivation& a : kActivations)
    if (a.name == name) return a.function;
  throw Error("activation '{}' (config.json: 'hidden_act') is not known; known are {}", name,
              fmt::join(activation_names(), ", "));
}

std::vector<std::string_view> activation_names() {
  std::vector<std::string_view> names;
  for (const NamedActivation& a : kActivations) names.push_back(a.name);
  return names;
}

GatedActivation::GatedActivation(std::string_view name)
    : act_(activation_from_name(name)),
      fused_(act_ == static_cast<ActivationFn>(silu)          ? kernels::swiglu
             : act_ == static_cast<ActivationFn>(gelu)        ? kernels::geglu
             : act_ == static_cast<ActivationFn>(gelu_approx) ? kernels::geglu_approx
             : act_ == static_cast<ActivationFn>(relu2)       ? kernels::relu2_glu
                                                              : nullptr) {}

mx::array GatedActivation::operator()(const mx::array& gate, const mx::array& up) const {
  return fused_ ? fused_(gate, up) : act_(gate) * up;
}

mx::array GELU::operator()(const mx::array& x) const {
  switch (form_) {
    case Form::exact:
      return gelu(x);
    case Form::tanh:
      return gelu_approx(x);
    case Form::sigmoid:
      return gelu_fast_approx(x);
  }
  return x;
}

std::string GELU::settings() const {
  return form_ == Form::exact ? "" : form_ == Form::tanh ? "tanh" : "sigmoid";
}

}  // namespace mlxcpp::nn

// Activations as functions (nn::relu(x)) and as modules (nn::ReLU), with the formulas of mlx.nn.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "nn/module.h"

namespace mlxcpp::nn {

// Element-wise, in x's dtype.
mx::array relu(const mx::array& x);
mx::array relu2(const mx::array& x);  // relu(x)^2
mx::array relu6(const mx::array& x);  // min(relu(x), 6)
mx::array leaky_relu(const mx::array& x, float negative_slope = 0.01f);
mx::array elu(const mx::array& x, float alpha = 1.0f);
mx::array selu(const mx::array& x);
mx::array celu(const mx::array& x, float alpha = 1.0f);
mx::array silu(const mx::array& x);              // x sigmoid(x)
mx::array gelu(const mx::array& x);              // x Phi(x), arXiv 1606.08415
mx::array gelu_approx(const mx::array& x);       // by tanh
mx::array gelu_fast_approx(const mx::array& x);  // x sigmoid(1.702 x), "quick_gelu"
mx::array mish(const mx::array& x);              // x tanh(softplus(x))
mx::array hardswish(const mx::array& x);         // x relu6(x + 3) / 6
mx::array hardsigmoid(const mx::array& x);       // relu6(x + 3) / 6
mx::array hard_tanh(const mx::array& x, float min_value = -1.0f, float max_value = 1.0f);
mx::array hard_shrink(const mx::array& x, float lambda = 0.5f);
mx::array softshrink(const mx::array& x, float lambda = 0.5f);
mx::array softplus(const mx::array& x);  // log(1 + e^x)
mx::array softsign(const mx::array& x);  // x / (1 + |x|)
mx::array sigmoid(const mx::array& x);
mx::array log_sigmoid(const mx::array& x);
mx::array tanh(const mx::array& x);
mx::array step(const mx::array& x, float threshold = 0.0f);   // 1 from the threshold on, else 0
mx::array prelu(const mx::array& x, const mx::array& alpha);  // learned slope below zero

// Along an axis.
mx::array softmax(const mx::array& x, int axis = -1);
mx::array log_softmax(const mx::array& x, int axis = -1);
mx::array softmin(const mx::array& x, int axis = -1);
mx::array glu(const mx::array& x, int axis = -1);  // a sigmoid(b) of the two halves of the axis

// The names that config.json uses for `hidden_act`: "silu", "gelu_pytorch_tanh", ... An unknown
// name is an Error that lists the known ones.
using ActivationFn = mx::array (*)(const mx::array& x);
ActivationFn activation_from_name(std::string_view name);
std::vector<std::string_view> activation_names();

// act(gate) * up, in one pass where a kernel has it (silu, gelu and its tanh form, relu2).
class GatedActivation {
 public:
  explicit GatedActivation(std::string_view name);
  mx::array operator()(const mx::array& gate, const mx::array& up) const;
  ActivationFn of_gate() const { return act_; }

 private:
  using Fused = mx::array (*)(const mx::array& gate, const mx::array& up);
  ActivationFn act_;
  Fused fused_;  // null: no kernel
};

// Modules without parameters, for Sequential and for printing. Each calls the function above.
template <ActivationFn F>
class Activation : public Layer {
 public:
  mx::array operator()(const mx::array& x) const override { return F(x); }
};
class ReLU final : public Activation<relu> {};
class ReLU2 final : public Activation<relu2> {};
class ReLU6 final : public Activation<relu6> {};
class SELU final : public Activation<selu> {};
class SiLU final : public Activation<silu> {};
class Mish final : public Activation<mish> {};
class Hardswish final : public Activation<hardswish> {};
class Softplus final : public Activation<softplus> {};
class Softsign final : public Activation<softsign> {};
class Sigmoid final : public Activation<sigmoid> {};
class LogSigmoid final : public Activation<log_sigmoid> {};
class Tanh final : public Activation<tanh> {};

// The same with a number.
template <mx::array (*F)(const mx::array&, float)>
class ScalarActivation : public Layer {
 public:
  explicit ScalarActivation(float value) : value_(value) {}
  mx::array operator()(const mx::array& x) const override { return F(x, value_); }
  std::string settings() const override { return fmt::format("{}", value_); }

 private:
  float value_;
};
struct LeakyReLU final : ScalarActivation<leaky_relu> {
  explicit LeakyReLU(float negative_slope = 0.01f) : ScalarActivation(negative_slope) {}
};
struct ELU final : ScalarActivation<elu> {
  explicit ELU(float alpha = 1.0f) : ScalarActivation(alpha) {}
};
struct CELU final : ScalarActivation<celu> {
  explicit CELU(float alpha = 1.0f) : ScalarActivation(alpha) {}
};
struct HardShrink final : ScalarActivation<hard_shrink> {
  explicit HardShrink(float lambda = 0.5f) : ScalarActivation(lambda) {}
};
struct Softshrink final : ScalarActivation<softshrink> {
  explicit Softshrink(float lambda = 0.5f) : ScalarActivation(lambda) {}
};
struct Step final : ScalarActivation<step> {
  explicit Step(float threshold = 0.0f) : ScalarActivation(threshold) {}
};

// The same with an axis.
template <mx::array (*F)(const mx::array&, int)>
class AxisActivation : public Layer {
 public:
  explicit AxisActivation(int axis) : axis_(axis) {}
  mx::array operator()(const mx::array& x) const override { return F(x, axis_); }
  std::string settings() const override { return fmt::format("axis={}", axis_); }

 private:
  int axis_;
};
struct Softmax final : AxisActivation<softmax> {
  explicit Softmax(int axis = -1) : AxisActivation(axis) {}
};
struct LogSoftmax final : AxisActivation<log_softmax> {
  explicit LogSoftmax(int axis = -1) : AxisActivation(axis) {}
};
struct Softmin final : AxisActivation<softmin> {
  explicit Softmin(int axis = -1) : AxisActivation(axis) {}
};
struct GLU final : AxisActivation<glu> {
  explicit GLU(int axis = -1) : AxisActivation(axis) {}
};

class HardTanh final : public Layer {
 public:
  explicit HardTanh(float min_value = -1.0f, float max_value = 1.0f)
      : min_value_(min_value), max_value_(max_value) {}
  mx::array operator()(const mx::array& x) const override {
    return hard_tanh(x, min_value_, max_value_);
  }
  std::string settings() const override { return fmt::format("{}, {}", min_value_, max_value_); }

 private:
  float min_value_, max_value_;
};

class GELU final : public Layer {
 public:
  enum class Form { exact, tanh, sigmoid };  // mlx.nn: "none", "precise", "fast"
  explicit GELU(Form form = Form::exact) : form_(form) {}
  mx::array operator()(const mx::array& x) const override;
  std::string settings() const override;

 private:
  Form form_;
};

class PReLU final : public Layer {
 public:
  explicit PReLU(int num_parameters = 1, float init = 0.25f)
      : weight(this, "weight", mx::full({num_parameters}, init)) {}
  mx::array operator()(const mx::array& x) const override { return prelu(x, *weight); }

  Param weight;  // [num_parameters], for each channel or for all
};

}  // namespace mlxcpp::nn

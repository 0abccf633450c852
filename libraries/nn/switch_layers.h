// Layers of mixtures of experts (arXiv 2101.03961): the weights of all experts stacked, each token
// through the few that a router chose. Only the chosen experts' weights are read.
#pragma once

#include <functional>

#include "nn/module.h"
#include "nn/quantizable.h"
#include "nn/quantized.h"

namespace mlxcpp::nn {

// x [T, K], weight [E, N, K], experts uint32 [T]: row t times the transpose of expert experts[t] ->
// [T, N]. sorted: the experts ascend.
mx::array expert_linear(const mx::array& x, const mx::array& weight, const mx::array& experts,
                        bool sorted);

// Linear layers of `num_experts` experts; weight [E, output_dims, input_dims], bias [E,
// output_dims]. Virtual, so that a QuantizedSwitchLinear or a LoRA layer can take its place in the
// tree.
class SwitchLinear : public Module, public Quantizable {
 public:
  SwitchLinear(int input_dims, int output_dims, int num_experts, bool with_bias = false);

  // x [T, input_dims], experts uint32 [T]: row t through expert experts[t] -> [T, output_dims].
  // sorted: the experts ascend, so that rows of one expert are computed together.
  virtual mx::array operator()(const mx::array& x, const mx::array& experts,
                               bool sorted = false) const;

  int input_dims() const { return input_dims_; }
  int output_dims() const { return output_dims_; }
  int num_experts() const { return num_experts_; }

  std::string settings() const override;
  std::unique_ptr<Module> quantized_twin(const kernels::QuantType& type) const override;
  std::unique_ptr<Module> quantized(const kernels::QuantType& type) const override;

 protected:
  // For layers that store the weight in another form (fixed), or within another module (nullopt):
  // no float weight is made.
  SwitchLinear(int input_dims, int output_dims, int num_experts,
               std::optional<mx::array> stored_weight);
  mx::array with_bias(const mx::array& y, const mx::array& experts) const;

 private:
  int input_dims_, output_dims_, num_experts_;

 public:
  Param weight, bias;
};

class QuantizedSwitchLinear : public SwitchLinear, public QuantizedLayer {
 public:
  QuantizedSwitchLinear(int input_dims, int output_dims, int num_experts,
                        const kernels::QuantType& type, bool with_bias = false);
  QuantizedSwitchLinear(kernels::QuantizedMatrix matrix, std::optional<mx::array> bias);

  mx::array operator()(const mx::array& x, const mx::array& experts,
                       bool sorted = false) const override;

  kernels::QuantizedMatrix matrix() const override;
  std::unique_ptr<Module> dequantized(mx::Dtype dtype) const override;
  std::string settings() const override;

 protected:
  size_t num_own_parameters() const override;

 private:
  kernels::QuantType type_;

 public:
  Param scales, biases;
};

// Rows x [T, D] and choices experts [T, k] as flat lists of T*k rows for SwitchLinear, and back.
// From kSortFrom rows on the list is ordered by expert, so that each expert's weights are read
// once.
class ExpertRows {
 public:
  static constexpr int kSortFrom = 64;

  // x [..., D], experts of any integer dtype [..., k].
  ExpertRows(const mx::array& x, const mx::array& experts);

  const mx::array& rows() const { return rows_; }        // [T*k, D]
  const mx::array& experts() const { return experts_; }  // uint32 [T*k]
  bool sorted() const { return order_.has_value(); }
  // y [T*k, N] in the order of rows() -> [..., k, N].
  mx::array restore(const mx::array& y) const;

 private:
  mx::Shape shape_;  // of the choices
  std::optional<mx::array> order_;
  mx::array rows_, experts_;
};

// Experts with gate: down(act(gate(x)) * up(x)), the activation as kernels::swiglu has it.
class SwitchGLU : public Module {
 public:
  using Gated = std::function<mx::array(const mx::array& gate, const mx::array& up)>;
  SwitchGLU(int input_dims, int hidden_dims, int num_experts, bool with_bias = false);
  SwitchGLU(int input_dims, int hidden_dims, int num_experts, Gated activation,
            bool with_bias = false);

  // x [..., input_dims], experts [..., k] -> [..., k, input_dims]; the caller weighs and sums them.
  mx::array operator()(const mx::array& x, const mx::array& experts) const;

 private:
  Gated activation_;

 public:
  Child<SwitchLinear> gate_proj, up_proj, down_proj;
};

// Experts without gate: fc2(act(fc1(x))).
class SwitchMLP : public Module {
 public:
  using Activation = std::function<mx::array(const mx::array& x)>;
  SwitchMLP(int input_dims, int hidden_dims, int num_experts, Activation activation,
            bool with_bias = false);

  // As SwitchGLU.
  mx::array operator()(const mx::array& x, const mx::array& experts) const;

 private:
  Activation activation_;

 public:
  Child<SwitchLinear> fc1, fc2;
};

}  // namespace mlxcpp::nn

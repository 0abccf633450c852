#pragma once

#include "nn/module.h"
#include "nn/quantizable.h"

namespace mlxcpp::nn {

// x [..., input_dims] -> x W^T + b [..., output_dims]; weight [output_dims, input_dims].
// Virtual, so that a QuantizedLinear or a LoRALinear can take its place in the tree.
class Linear : public Layer, public Quantizable {
 public:
  // Weight and bias are drawn uniformly from +-1/sqrt(input_dims), as in mlx.nn.
  Linear(int input_dims, int output_dims, bool with_bias = false);

  mx::array operator()(const mx::array& x) const override;

  int input_dims() const { return input_dims_; }
  int output_dims() const { return output_dims_; }

  std::string settings() const override;
  std::unique_ptr<Module> quantized_twin(const kernels::QuantType& type) const override;
  std::unique_ptr<Module> quantized(const kernels::QuantType& type) const override;

 protected:
  // For layers that store the weight in another form (fixed), or within another module (nullopt):
  // no float weight is made.
  Linear(int input_dims, int output_dims, std::optional<mx::array> stored_weight);

 private:
  int input_dims_, output_dims_;

 public:
  Param weight, bias;
};

// What stands there when there is nothing to do.
class Identity final : public Layer {
 public:
  mx::array operator()(const mx::array& x) const override { return x; }
};

// x1 [..., input1_dims], x2 [..., input2_dims] -> x1 W_o x2 + b_o, one output o of output_dims
// each; weight [output_dims, input2_dims, input1_dims].
class Bilinear final : public Module {
 public:
  Bilinear(int input1_dims, int input2_dims, int output_dims, bool with_bias = true);
  mx::array operator()(const mx::array& x1, const mx::array& x2) const;
  std::string settings() const override;

  Param weight, bias;
};

}  // namespace mlxcpp::nn

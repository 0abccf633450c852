#pragma once

#include <string>

#include "nn/activations.h"
#include "nn/linear.h"

namespace mlxcpp::vlm {

namespace mx = mlx::core;

// fc2(act(fc1(x))), with biases: the MLP of vision transformers.
class MLP : public nn::Layer {
 public:
  MLP(int width, int intermediate_size, const std::string& act)
      : act_(nn::activation_from_name(act)),
        fc1(this, "fc1", width, intermediate_size, true),
        fc2(this, "fc2", intermediate_size, width, true) {}
  mx::array operator()(const mx::array& x) const override { return fc2(act_(fc1(x))); }

 private:
  const nn::ActivationFn act_;

 public:
  nn::Child<nn::Linear> fc1, fc2;
};

}  // namespace mlxcpp::vlm

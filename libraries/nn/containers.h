#pragma once

#include <memory>
#include <utility>

#include "nn/module.h"

namespace mlxcpp::nn {

// Layers one after the other; their parameters are "layers.0.weight", ...
//   Sequential mlp;
//   mlp.add<Linear>(784, 32).add<ReLU>().add<Linear>(32, 10);
class Sequential final : public Layer {
 public:
  Sequential() = default;

  template <class T, class... A>
  Sequential& add(A&&... a) {
    layers.push_back(std::make_unique<T>(std::forward<A>(a)...));
    return *this;
  }
  Sequential& add(std::unique_ptr<Layer> layer) {
    layers.push_back(std::move(layer));
    return *this;
  }

  mx::array operator()(const mx::array& x) const override {
    auto y = x;
    for (size_t i = 0; i < layers.size(); ++i) y = layers.call(i, y);
    return y;
  }

  Children<Layer> layers{this, "layers"};
};

}  // namespace mlxcpp::nn

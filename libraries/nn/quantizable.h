#pragma once

#include <memory>

#include "kernels/quantized.h"
#include "nn/module.h"

namespace mlxcpp::nn {

// A layer that has a quantised twin. quantize() and quantize_weights() (quantized.h) find it by
// this interface, so a new kind of layer joins by implementing it.
class Quantizable {
 public:
  virtual ~Quantizable() = default;

  // The twin with arrays of the right shapes and no content: `load` fills it. Throws an Error when
  // the type does not fit the layer's sizes.
  virtual std::unique_ptr<Module> quantized_twin(const kernels::QuantType& type) const = 0;
  // The twin with this layer's weights, quantised now (lazily). MLX's types only.
  virtual std::unique_ptr<Module> quantized(const kernels::QuantType& type) const = 0;
};

// What such a twin is.
class QuantizedLayer {
 public:
  virtual ~QuantizedLayer() = default;

  virtual kernels::QuantizedMatrix matrix() const = 0;
  // The float layer again.
  virtual std::unique_ptr<Module> dequantized(mx::Dtype dtype) const = 0;
};

}  // namespace mlxcpp::nn

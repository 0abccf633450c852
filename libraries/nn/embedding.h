#pragma once

#include "nn/module.h"
#include "nn/quantizable.h"

namespace mlxcpp::nn {

// ids (any shape, not negative, below `count`) -> rows of weight [count, dims]: [..., dims].
// Virtual, so that a QuantizedEmbedding can take its place in the tree.
class Embedding : public Layer, public Quantizable {
 public:
  Embedding(int count, int dims);

  mx::array operator()(const mx::array& ids) const override;
  // The same matrix as the output projection of tied models: x [..., dims] -> [..., count].
  virtual mx::array as_linear(const mx::array& x) const;

  int count() const { return count_; }
  int dims() const { return dims_; }

  std::string settings() const override;
  std::unique_ptr<Module> quantized_twin(const kernels::QuantType& type) const override;
  std::unique_ptr<Module> quantized(const kernels::QuantType& type) const override;

 protected:
  // For layers that store the weight in another form (fixed), or within another module (nullopt):
  // no float weight is made.
  Embedding(int count, int dims, std::optional<mx::array> stored_weight);

 private:
  int count_, dims_;

 public:
  Param weight;
};

}  // namespace mlxcpp::nn

// Quantised twins of Linear, Embedding (and SwitchLinear, see switch_layers.h), and the functions
// that put them into a tree. The parameters have the published names: `weight` packed, and for
// MLX's types `scales` (and `biases` for affine); GGUF types have everything in `weight`.
#pragma once

#include <functional>
#include <optional>

#include "nn/embedding.h"
#include "nn/linear.h"

namespace mlxcpp::nn {

// Which layers are quantised, and how: called with the path of every Quantizable layer. nullopt: it
// stays as it is.
using QuantPredicate =
    std::function<std::optional<kernels::QuantType>(const std::string& path, const Module& layer)>;

// Before `load` of a quantised checkpoint: puts twins, whose arrays have the right shapes and no
// content, where the predicate says so. An Error names the path of a layer that the type does not
// fit.
void quantize(Module& m, const QuantPredicate& which);

// Quantises the weights that the model has. Types that MLX has not (GGUF's) are refused.
void quantize_weights(Module& m, const QuantPredicate& which);
void quantize_weights(Module& m, const kernels::QuantType& type);

// The way back: float layers in place of all quantised ones.
void dequantize_weights(Module& m, mx::Dtype dtype = mx::float32);

namespace detail {
// A matrix [..., rows, cols] of zeros in the form of `type`, whose shapes and dtypes a checkpoint
// is held to. Nothing is allocated until it is evaluated. Throws when cols is no multiple of the
// group.
kernels::QuantizedMatrix empty_matrix(const kernels::QuantType& type, mx::Shape shape);
std::string quant_settings(const kernels::QuantType& type);
}  // namespace detail

// y = x dequantised(W)^T + b, without ever making the dequantised W.
class QuantizedLinear : public Linear, public QuantizedLayer {
 public:
  QuantizedLinear(int input_dims, int output_dims, const kernels::QuantType& type,
                  bool with_bias = false);
  QuantizedLinear(kernels::QuantizedMatrix matrix, std::optional<mx::array> bias);

  mx::array operator()(const mx::array& x) const override;

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

// Rows are dequantised one by one, as they are asked for.
class QuantizedEmbedding : public Embedding, public QuantizedLayer {
 public:
  QuantizedEmbedding(int count, int dims, const kernels::QuantType& type);
  explicit QuantizedEmbedding(kernels::QuantizedMatrix matrix);

  // Rows in the dtype that MLX's dequantize gives: that of the scales for affine, bfloat16 (exact)
  // for mxfp4, mxfp8 and nvfp4; float32 for GGUF types. set_dtype chooses another.
  mx::array operator()(const mx::array& ids) const override;
  mx::array as_linear(const mx::array& x) const override;
  void set_dtype(mx::Dtype dtype) { dtype_ = dtype; }

  kernels::QuantizedMatrix matrix() const override;
  std::unique_ptr<Module> dequantized(mx::Dtype dtype) const override;
  std::string settings() const override;

 protected:
  size_t num_own_parameters() const override;

 private:
  mx::Dtype dtype() const;

  kernels::QuantType type_;
  std::optional<mx::Dtype> dtype_;

 public:
  Param scales, biases;
};

}  // namespace mlxcpp::nn

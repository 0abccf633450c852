#pragma once

#include "kernels/decoder_step.h"
#include "nn/linear.h"
#include "nn/quantizable.h"

namespace mlxcpp::nn {

// A linear layer of BitNet b1.58 (arXiv 2402.17764), as transformers packs it: `weight` uint8
// [output_dims / 4, input_dims] of ternary values and `weight_scale` [1] (kernels/ternary.h).
class BitLinear final : public Linear, public QuantizedLayer {
 public:
  struct Options {
    // Older checkpoints (linear class "bitlinear") hold the inverse of the scale.
    bool inverse_scale = false;
    // Each token is rounded to int8 by its largest magnitude before it is multiplied, as in the
    // model's training.
    bool quantize_activations = false;
  };

  // Error unless output_dims is a multiple of 4.
  BitLinear(int input_dims, int output_dims, bool with_bias, const Options& options);

  mx::array operator()(const mx::array& x) const override;

  void quantize_activations(bool on) { options_.quantize_activations = on; }

  // For a decoder layer's step as one operation (kernels/decoder_step.h), without the bias; none
  // where activations are rounded as in training.
  std::optional<kernels::TernaryPart> step_part() const;

  // The same values in MLX's 2-bit form; the input must be a multiple of 32 wide.
  kernels::QuantizedMatrix matrix() const override;
  std::unique_ptr<Module> dequantized(mx::Dtype dtype) const override;
  std::string settings() const override;

 protected:
  size_t num_own_parameters() const override;

 private:
  mx::array scale() const;

  Options options_;

 public:
  Param weight_scale;
};

// Puts BitLinear layers in place of all linear layers at or below `path`.
void make_ternary(Module& m, const std::string& path, const BitLinear::Options& options);

// Puts BitLinear layers in place of quantised ones of 2 bits that hold the same: whose scales, in
// f32, are all one number, and whose biases are its negative. They are multiplied far faster.
// Called when the weights are there.
void make_ternary_where_equal(Module& m);

}  // namespace mlxcpp::nn

// The transformer inside the UNet's blocks. Reference: diffusers, models/attention.py,
// models/attention_processor.py, models/transformers/transformer_2d.py.
#pragma once

#include <optional>

#include "nn/linear.h"
#include "nn/norm.h"

namespace mlxcpp::sd {

namespace mx = mlx::core;

struct TransformerSizes {
  int channels, heads, layers;
  int context_dim;  // width of the text states
  int groups;
};

// softmax(q k^T / sqrt(d)) v with all heads; context [B, S, context_dim], or x itself.
class Attention : public nn::Module {
 public:
  Attention(int channels, int heads, int context_dim, bool qkv_bias = false);
  mx::array operator()(const mx::array& x, const mx::array& context) const;  // x [B, L, channels]

 private:
  int heads_;

 public:
  nn::Child<nn::Linear> to_q, to_k, to_v, to_out;  // to_out: "to_out.0"
};

class TransformerBlock;

// x [N, H, W, channels], context [N, S, context_dim] -> x plus what the blocks add.
class Transformer2D final : public nn::Module {
 public:
  explicit Transformer2D(const TransformerSizes& sizes);
  ~Transformer2D() override;
  mx::array operator()(const mx::array& x, const mx::array& context) const;

  nn::Child<nn::GroupNorm> norm;
  nn::Child<nn::Linear> proj_in;  // of published models a 1x1 convolution or a linear layer
  nn::Children<TransformerBlock> transformer_blocks;
  nn::Child<nn::Linear> proj_out;
};

}  // namespace mlxcpp::sd

#pragma once

#include <optional>

#include "nn/linear.h"

namespace mlxcpp::nn {

// Widths of a MultiHeadAttention; 0 stands for the default that mlx.nn has.
struct AttentionDims {
  int query_input = 0;   // dims
  int key_input = 0;     // dims
  int value_input = 0;   // key_input
  int value = 0;         // dims
  int value_output = 0;  // dims
};

// Attention of "Attention Is All You Need" (arXiv 1706.03762), as in mlx.nn. Decoders with rotary
// positions, grouped heads and caches build theirs from kernels::attention.
class MultiHeadAttention final : public Module {
 public:
  MultiHeadAttention(int dims, int num_heads, AttentionDims widths = {}, bool with_bias = false);

  // queries [B, L, query_input], keys [B, S, key_input], values [B, S, value_input]
  // -> [B, L, value_output]. mask: bool (true: seen) or additive, broadcast to [B, H, L, S].
  mx::array operator()(const mx::array& queries, const mx::array& keys, const mx::array& values,
                       const std::optional<mx::array>& mask = {}) const;
  std::string settings() const override;

  // [length, length]: 0 where query i may see key j <= i, else the lowest number of the dtype.
  static mx::array additive_causal_mask(int length, mx::Dtype dtype = mx::float32);

 private:
  int num_heads_;

 public:
  Child<Linear> query_proj, key_proj, value_proj, out_proj;
};

}  // namespace mlxcpp::nn

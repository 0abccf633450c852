#pragma once

#include <optional>
#include <vector>

#include <mlx/mlx.h>

namespace mlxcpp::kernels {

namespace mx = mlx::core;

struct PackedAttentionOptions {
  float scale = 1.0f;
  bool causal = false;             // a token sees itself and what stands before it
  std::optional<int> window = {};  // it sees tokens less than `window` away from it
  float softcap = 0.0f;            // 0: none; else scores become softcap * tanh(scores / softcap)
};

// Attention within each of several sequences that stand one after the other, without padding:
// q [T, H, D], k [T, Hkv, D], v [T, Hkv, Dv] -> [T, H, Dv] in q's dtype, H a multiple of Hkv and T
// the sum of `lengths`. A sequence's result has the same bits alone and among others. On CPU f32,
// bf16 and f16 by the kernel of attention.h; elsewhere through padded rows. Differentiable. Error
// if shapes do not fit.
mx::array packed_attention(const mx::array& q, const mx::array& k, const mx::array& v,
                           const std::vector<int>& lengths, const PackedAttentionOptions& o);

// The same through padded rows, on any device: the reference of the kernel.
mx::array padded_attention(const mx::array& q, const mx::array& k, const mx::array& v,
                           const std::vector<int>& lengths, const PackedAttentionOptions& o);

}  // namespace mlxcpp::kernels

#pragma once

#include <memory>
#include <optional>

#include <mlx/mlx.h>

namespace mlxcpp::kernels {

namespace mx = mlx::core;

// What attention may see, and how scores are shaped.
struct AttentionOptions {
  float scale = 1.0f;
  bool causal = true;              // query i of L sees keys up to (keys - L + i)
  std::optional<int> window = {};  // causal only: and of those only the last `window`
  std::optional<mx::array> mask =
      {};  // instead of causal/window: bool (true: seen) or additive, broadcast to [B, H, L, S]
  std::optional<mx::array> sinks =
      {};                // [H], one more logit per head that takes part in the softmax only
  float softcap = 0.0f;  // 0: none; else scores become softcap * tanh(scores / softcap)
};

// softmax(q k^T * scale) v.  q [B, H, L, D], k [B, Hkv, S, D], v [B, Hkv, S, Dv] -> [B, H, L, Dv]
// in q's dtype; H a multiple of Hkv (grouped heads). On CPU f32, bf16 and f16 are computed in f32
// and the [L, S] score matrix is never allocated; a query that sees no key gets zeros; the result
// is in memory as [B, L, H, Dv], so that joining the heads costs nothing. Arrays may be strided.
// Differentiable: with respect to q, k and v by a kernel of its own in f32, else through plain ops.
// Error if shapes do not fit.
mx::array attention(const mx::array& q, const mx::array& k, const mx::array& v,
                    const AttentionOptions& o);

// The same by plain MLX ops, on any device and in any dtype: the reference of the kernel, and what
// gradients go through.
mx::array plain_attention(const mx::array& q, const mx::array& k, const mx::array& v,
                          const AttentionOptions& o);

}  // namespace mlxcpp::kernels

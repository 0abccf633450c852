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
  std::optional<int> window = {};  // and of those only the last `window`
  std::optional<mx::array> mask =
      {};  // instead of causal/window: bool (true: seen) or additive, broadcast to [B, H, L, S]
  std::optional<mx::array> sinks =
      {};                // [H], one more logit per head that takes part in the softmax only
  float softcap = 0.0f;  // 0: none; else scores become softcap * tanh(scores / softcap)
};

// softmax(q k^T * scale) v.  q [B, H, L, D], k [B, Hkv, S, D], v [B, Hkv, S, Dv] -> [B, H, L, Dv];
// H a multiple of Hkv (grouped heads). Never allocates the [L, S] score matrix on CPU.
// Differentiable (through plain ops).
mx::array attention(const mx::array& q, const mx::array& k, const mx::array& v,
                    const AttentionOptions& o);

}  // namespace mlxcpp::kernels

#pragma once

#include <cmath>
#include <memory>

#include "embedders/text_encoder.h"
#include "kernels/packed_attention.h"
#include "nn/rope.h"

namespace mlxcpp::embedders {

// Attention of every token of a text to all others of it. q, k, v [T, H, D] -> [T, H*D].
// rope: none, where positions are in the embeddings. window: tokens less than so far away.
mx::array attend(mx::array q, mx::array k, const mx::array& v, const PackedTokens& tokens,
                 const nn::RoPE* rope = nullptr, std::optional<int> window = {});

// The same from a projection to all three, [T, 3*H*D]: rows of the queries, then keys, then values.
mx::array attend_fused(const mx::array& qkv, int heads, const PackedTokens& tokens,
                       const nn::RoPE* rope = nullptr, std::optional<int> window = {});

}  // namespace mlxcpp::embedders

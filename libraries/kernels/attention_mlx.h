// What attention and the KV store share of MLX: formats, strides, and the fields of a step.
#pragma once

#include <vector>

#include <mlx/mlx.h>

#include "kernels/attention.h"
#include "kernels/attention_kernel.h"
#include "kernels/primitive.h"

namespace mlxcpp::kernels {

bool is_kernel_float(mx::Dtype dtype);  // f32, bf16, f16
KvFormat kv_format(mx::Dtype dtype);    // of those
MaskFormat mask_format(mx::Dtype dtype);

// Throws an Error unless q, k and v fit together and to the options. `seen` keys stand before k.
void check_attention(const mx::array& q, const mx::array& k, const mx::array& v,
                     const AttentionOptions& o, int seen);

// The inputs that options add to q, k, v: the mask broadcast to [B, H, L, S], the sinks in f32.
void append_option_inputs(Arrays& inputs, const AttentionOptions& o, const mx::Shape& mask_shape);

// An array whose last axis is without gaps: `a`, or a copy of it that the stream makes first.
mx::array with_dense_rows(const mx::array& a, const mx::Stream& s);

// Plane over a [B, H, S, D] array with a dense last axis; it may have no data yet.
KvPlane plane_of(const mx::array& a);

// Sets q, out (allocated here, in memory as [B, L, H, Dv]), scale, softcap, causal, window, mask
// and sinks. `options` are the inputs that append_option_inputs added, in a row.
void set_query(AttentionArgs& args, const mx::array& q, mx::array& out, const AttentionOptions& o,
               const mx::array* options);

}  // namespace mlxcpp::kernels

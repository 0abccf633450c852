#pragma once

#include <mlx/mlx.h>

#include "kernels/attention.h"
#include "kernels/primitive.h"
#include "kernels/row_kernels.h"

// What the backward passes of our kernels are made of: f32 on the CPU. Their shapes have been
// checked in the forward pass.
namespace mlxcpp::kernels {

// Whether these kernels take it: f32 arrays on a CPU stream, none empty.
bool has_gradient_kernel(const Arrays& in, mx::Stream s);

// Gradient of an activation: {dx}, or {dgate, dup} for the gated ones. `in` is the result where
// slope_from_result. `plain` is the same in MLX's operations, for the second derivative.
Arrays activation_grad(Activation activation, const Arrays& in, const mx::array& dy, Fallback plain,
                       mx::Stream s);

// Gradient of rms_norm (layer: of layer_norm) with respect to x. weight may be none.
mx::array norm_grad(bool layer, const mx::array& x, const std::optional<mx::array>& weight,
                    const mx::array& dy, float eps, mx::Stream s);

// {dq, dk, dv} of attention(q, k, v, o), the mask and the sinks being constants. The scores are
// computed again, some rows at a time.
Arrays attention_grad(const mx::array& q, const mx::array& k, const mx::array& v,
                      const AttentionOptions& o, const mx::array& dy, mx::Stream s);

}  // namespace mlxcpp::kernels

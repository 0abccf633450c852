#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/float_type.h"

namespace mlxcpp::kernels {

enum class Activation {
  silu,
  gelu,
  gelu_approx,
  relu2,
  tanh,
  sigmoid,
  relu,
  swiglu,
  geglu,
  geglu_approx,
  relu2_glu
};
inline constexpr int kActivations = 11;
constexpr bool is_gated(Activation a) { return a >= Activation::swiglu; }
// Those whose slope is best told from the result.
constexpr bool slope_from_result(Activation a) {
  return a == Activation::tanh || a == Activation::sigmoid || a == Activation::relu;
}

// Loops over contiguous rows, which know nothing of MLX: one table for each instruction set. Index
// [t] is a FloatType, that of all void pointers of the call; n counts elements. Rows may start at
// any address that their type allows. y may be x (or up) itself.
struct RowKernels {
  // y = f(x), or f(x) * up for the gated ones.
  void (*activation[kActivations][kFloatTypes])(const void* x, const void* up, void* y, size_t n);

  // weight and bias may be null.
  void (*rms_norm[kFloatTypes])(const void* x, const void* weight, void* y, size_t n, float eps);
  void (*layer_norm[kFloatTypes])(const void* x, const void* weight, const void* bias, void* y,
                                  size_t n, float eps);

  // cosine and sine of position * inv_freq[i], times scale.
  void (*rope_table)(const float* inv_freq, float position, float scale, float* cosine, float* sine,
                     size_t n);
  // Turns the pairs (x1[i], x2[i]) into (y1[i], y2[i]).
  void (*rotate_halves[kFloatTypes])(const void* x1, const void* x2, const float* cosine,
                                     const float* sine, void* y1, void* y2, size_t n);
  // Turns the pairs (x[2i], x[2i+1]); n counts pairs.
  void (*rotate_pairs[kFloatTypes])(const void* x, const float* cosine, const float* sine, void* y,
                                    size_t n);

  // The largest x, and the sum of exp(x - largest); a row of -inf alone gives -inf and 0.
  void (*max_and_sum_exp[kFloatTypes])(const void* x, size_t n, float* largest, float* sum);
  // y = exp(x - shift) * factor
  void (*exp_shifted[kFloatTypes])(const void* x, void* y, size_t n, float shift, float factor);
  // y = (x - shift) - log_sum
  void (*subtract[kFloatTypes])(const void* x, void* y, size_t n, float shift, float log_sum);

  // The largest x that is a number (-inf when none is) and the first index where it stands.
  void (*argmax[kFloatTypes])(const void* x, size_t n, float* largest, size_t* index);
  // The elements of x above `threshold`, of which there may be `capacity`: their values, their
  // indices plus `offset`. Returns how many; *end is the index of the first element not looked at
  // (n unless the capacity was used up).
  size_t (*above[kFloatTypes])(const void* x, size_t n, float threshold, uint32_t offset,
                               float* values, uint32_t* indices, size_t capacity, size_t* end);

  // Gradients, f32 only.
  // dx (and dup for the gated ones, else null) from dy. x is the result where slope_from_result.
  void (*activation_grad[kActivations])(const float* x, const float* up, const float* dy, float* dx,
                                        float* dup, size_t n);
  // weight may be null.
  void (*rms_norm_grad)(const float* x, const float* weight, const float* dy, float* dx, size_t n,
                        float eps);
  void (*layer_norm_grad)(const float* x, const float* weight, const float* dy, float* dx, size_t n,
                          float eps);
  // dx = p (dp - sum(p dp)) scale, p being a row of a softmax. Returns sum(p dp). dx may be dp.
  float (*softmax_grad)(const float* p, const float* dp, float* dx, size_t n, float scale);
};

extern const RowKernels kRowKernelsGeneric, kRowKernelsAvx2, kRowKernelsAvx512;

// Those of isa().
const RowKernels& row_kernels();

}  // namespace mlxcpp::kernels

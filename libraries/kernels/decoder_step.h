// One step of a decoder layer for a few rows, as one primitive: norm, projections, rotation, append
// to the KV cache, attention, output, residual; norm, MLP, residual. MLX spends about 4 us on an
// operation here, and a layer of a small model has twenty that compute for less. What is computed
// is what the operations compute one by one, by the same kernels in the same order, to the bit;
// projections of the same input share what they round it to.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include <mlx/mlx.h>

#include "kernels/precision.h"
#include "kernels/quantized.h"
#include "kernels/rope.h"
#include "kernels/row_kernels.h"

namespace mlxcpp::kernels {

namespace mx = mlx::core;

inline constexpr int kStepRows = 8;  // B * L of a step at most

// What a layer is made of. Vectors and float weights are f32, bf16 or f16.
struct NormPart {
  bool layer = false;  // LayerNorm, otherwise RMS norm
  float eps = 0.0f;
  std::optional<mx::array> weight, bias;  // [dims]
};
struct LinearPart {
  std::optional<QuantizedMatrix> quantized;  // [N, K]; or
  std::optional<mx::array> weight;           // floats [N, K]
  std::optional<mx::array> bias;             // [N]
};
// How a part f stands in its layer: residual + multiplier * after(f(before(x))).
struct FramePart {
  std::optional<NormPart> before, after;
  float multiplier = 1.0f;
};
struct AttentionPart {
  FramePart frame;
  int heads = 0, kv_heads = 0, head_dim = 0;
  std::vector<LinearPart> qkv;  // three, or one: rows of the queries, then keys, then values
  bool grouped = false;         // or, of each key head, its queries, key, value
  std::optional<NormPart> q_norm, k_norm;  // of each head
  bool norm_heads_together = false;        // or of all heads of a token
  LinearPart out;
};
struct MlpPart {
  FramePart frame;
  std::vector<LinearPart> in;  // gate and up; one: both, rows of the gate first; one: up, not gated
  Activation activation = Activation::swiglu;
  LinearPart down;
};
struct LayerPart {
  std::optional<AttentionPart> attention;
  std::optional<MlpPart> mlp;
  bool side_by_side = false;  // the MLP sees what attention sees; both are added to the residual
};

// Queries, keys and values of a step before attention: [tokens, heads, head_dim] with strides, in
// floats.
struct StepHeads {
  struct Plane {
    float* data;
    size_t token, head;
  } q, k, v;
};

// A layer as its step takes it: evaluated, with pointers to the weights and copies of vectors.
class LayerPlan {
 public:
  // Evaluates the arrays. Null where they do not fit each other, or are of kinds that kernels do
  // not take. Not for arrays of a transform (tracers).
  static std::shared_ptr<const LayerPlan> make(const LayerPart& part);
  ~LayerPlan();

  // Whether it was made of these very arrays and numbers.
  bool is_of(const LayerPart& part) const;
  const LayerPart& part() const;
  int hidden() const;  // width of x

  // What a step computes, on pointers: x, residual and y are [batch * length, hidden].
  struct Step {
    int batch, length;
    Precision precision;
    const float* x;
    const float* residual;
    float* y;
    // Without rotation: null.
    const float* inv_freq = nullptr;
    int rope_dims = 0;
    bool traditional = false;
    float rope_scale = 1.0f;
    int start = 0;                // position of the first token,
    const int* starts = nullptr;  // or that of each row, [batch] (or [1])
    bool one_start = false;
  };
  // Appends keys and values, and attends: out [tokens, heads, head_dim].
  using Attend = std::function<void(const StepHeads& heads, float* out)>;
  // On the thread of the stream.
  void run(const Step& step, const Attend& attend) const;

 private:
  struct Prepared;
  explicit LayerPlan(std::unique_ptr<const Prepared> prepared);
  std::unique_ptr<const Prepared> prepared_;
};

// The step of a plan without attention. x and residual f32 [B, L, hidden], B * L at most kStepRows,
// on the CPU. Not differentiable.
mx::array mlp_step(const mx::array& x, const mx::array& residual,
                   const std::shared_ptr<const LayerPlan>& plan);

// Rotation of a step's queries and keys, as rope() takes it.
struct StepRope {
  int dims;
  bool traditional;
  mx::array inv_freq;
  float scale;
  Positions positions;  // one for all rows or one for each
};

}  // namespace mlxcpp::kernels

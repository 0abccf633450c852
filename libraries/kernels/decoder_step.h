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
struct TernaryPart {           // kernels/ternary.h
  mx::array packed;            // uint8 [N/4, K]
  mx::array scale;             // one number,
  bool inverse_scale = false;  // or one divided by it
};
struct LinearPart {
  std::optional<QuantizedMatrix> quantized;  // [N, K]; or
  std::optional<mx::array> weight;           // floats [N, K]; or the third
  std::optional<mx::array> bias;             // [N]
  std::optional<TernaryPart> ternary = {};
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
  bool shared = false;          // keys and values are another layer's: qkv has the queries alone
  std::optional<NormPart> q_norm, k_norm, v_norm;  // of each head
  bool norm_heads_together = false;                // or of all heads of a token
  std::optional<NormPart> out_norm;                // of what the output projection gets
  LinearPart out;
};
// Multi-head latent attention: keys and values are a latent vector [rank] a token, and a part of
// the key [rope_dim] that turns; these two are what the cache holds as keys and values of one head.
struct LatentPart {
  FramePart frame;
  int heads = 0, nope_dim = 0, rope_dim = 0, rank = 0, value_dim = 0;
  std::vector<LinearPart> q;       // one; or two with q_norm between them
  std::optional<NormPart> q_norm;  // queries of a head: nope_dim, then rope_dim
  LinearPart kv;                   // rows of the latent, then of what turns
  NormPart latent_norm;
  QuantizedMatrix embed_q, unembed_out;  // stacks [heads, rank, nope_dim], [heads, value_dim, rank]
  LinearPart out;
};
struct MlpPart {
  FramePart frame;
  std::vector<LinearPart> in;  // gate and up; one: both, rows of the gate first; one: up, not gated
  Activation activation = Activation::swiglu;
  std::optional<float> cutoff;         // keep_largest() of the gates (kernels/activations.h)
  std::optional<NormPart> inner_norm;  // of what the last projection gets
  LinearPart down;
};
// How a router's logits choose experts.
class ExpertChoice {
 public:
  virtual ~ExpertChoice() = default;
  virtual int experts() const = 0;
  virtual int chosen() const = 0;
  // logits [rows, experts], bias [experts] or null -> experts and weights [rows, chosen]. Any
  // thread may call it.
  virtual void choose(const float* logits, const float* bias, size_t rows, uint32_t* experts,
                      float* weights) const = 0;
};
struct MoePart {
  FramePart frame;
  LinearPart router;
  std::shared_ptr<const ExpertChoice> choice;
  std::optional<mx::array> correction_bias;  // [experts], for the choice
  QuantizedMatrix gate, up, down;            // stacks [experts, N, K]
  Activation activation = Activation::swiglu;
  std::optional<MlpPart> shared;  // its answer is added; its frame is not looked at
};
// Gemma 3n's layer around attention and MLP. x holds `inputs` streams side by side, [inputs,
// hidden] a token. Each is predicted from all (AltUp, arXiv 2301.13310); attention and MLP compute
// the active one, with a low-rank branch beside attention (LAuReL, arXiv 2411.07501); all are
// corrected by what came of it; and an embedding of the token for this layer [P] is added to all
// but the first.
struct AltUpPart {
  int inputs = 0, active = 0;
  NormPart router_norm;
  LinearPart router, prediction,
      correction;  // [inputs, hidden], [inputs^2, inputs], [inputs, inputs]
  LinearPart laurel_left, laurel_right;
  NormPart laurel_norm;
  std::optional<mx::array> output_scale;  // [hidden]
  LinearPart gate, projection;            // [P, hidden], [hidden, P]
  Activation activation = Activation::geglu_approx;
  NormPart projection_norm;
};
struct LayerPart {
  std::optional<AttentionPart> attention;
  std::optional<LatentPart> latent;  // in attention's place
  std::optional<MlpPart> mlp;
  std::optional<MoePart> moe;  // in the MLP's place
  std::optional<AltUpPart> altup;
  bool side_by_side = false;  // the MLP sees what attention sees; both are added to the residual
};

// Queries, keys and values of a step before attention: [tokens, heads, dim] with strides, in
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
  int hidden() const;     // width of a stream
  int width() const;      // of x
  int per_layer() const;  // of the token's embedding for this layer; 0: it has none
  // Of attention. Latent: a key is what the cache holds as one, followed by its value; which is
  // also how queries lie.
  struct Heads {
    bool shared;
    int heads, kv_heads, key_dim, value_dim;  // the cache's
    int rope_dim;                             // that may turn, at most
    bool latent;
  };
  std::optional<Heads> heads() const;

  // What a step computes, on pointers: x, residual and y are [batch * length, width].
  struct Step {
    int batch, length;
    Precision precision;
    const float* x;
    const float* residual;
    float* y;
    const float* per_layer = nullptr;  // [batch * length, per_layer()]
    // Without rotation: null.
    const float* inv_freq = nullptr;
    int rope_dims = 0;
    bool traditional = false;
    float rope_scale = 1.0f;
    int start = 0;                // position of the first token,
    const int* starts = nullptr;  // or that of each row, [batch] (or [1])
    bool one_start = false;
  };
  // Appends keys and values, and attends: out [tokens, heads, head_dim]; latent: [heads, tokens,
  // rank].
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

// sum += weight * x, as the sum over experts has it.
void add_weighed(const float* x, float weight, float* sum, size_t n);

// Rotation of a step's queries and keys, as rope() takes it.
struct StepRope {
  int dims;
  bool traditional;
  mx::array inv_freq;
  float scale;
  Positions positions;  // one for all rows or one for each
};

}  // namespace mlxcpp::kernels

#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <mlx/mlx.h>

#include "kernels/attention.h"
#include "kernels/decoder_step.h"

namespace mlxcpp::kernels {

// Affine quantisation of keys and values, as mx::quantize does it.
struct KvQuantization {
  int bits = 8;  // or 4
  int group_size = 64;

  bool operator==(const KvQuantization&) const = default;
};

// A store has two buffers of slots, one slot a token. The main buffer is what lasts. The tail holds
// the tokens of one step that cannot be written to the main buffer before its queries have seen
// what they overwrite (a chunk that runs around a ring); the next step settles them.
struct KvRun {  // slots [begin, begin + count)
  bool tail = false;
  int begin = 0;
  int count = 0;
};
struct KvCopy {  // `count` tokens from number or slot `from` to slot `to`
  int from = 0;
  int to = 0;
  int count = 0;
};

// The list of keys that queries see: runs of slots one after the other.
struct KvView {
  std::vector<KvRun> runs;
  int chunk = 0;               // above 0: a query sees its own block of this many positions only,
  int base = 0;                // number 0 of the list being at this position
  std::vector<int> first_key;  // per batch row: number of the first key that it may see

  int count() const {
    int n = 0;
    for (const KvRun& r : runs) n += r.count;
    return n;
  }
};

// One step, planned when the graph is built and done when it is evaluated, in this order.
struct KvStep {
  std::optional<KvQuantization> quantize;  // everything stored, from here on
  bool fresh = false;                      // the main buffer may be shared: take another
  int used = 0;                            // main slots in use so far
  int capacity = 0;                        // main slots that are needed now,
  int limit = 0;                           // and ever (0: no bound)
  std::vector<KvCopy> settle;              // tail slots to main slots; the tail ends
  int tail = 0;                            // above 0: a new tail of this many slots
  std::vector<KvCopy> write;               // new tokens, to the new tail or else the main buffer
  KvView view;                             // what is seen then
};

// Keys and values of one layer. It owns its buffers: a step appends in place, whatever MLX's
// donation does. Steps form a chain in the graph, so lazily built ones run in order, and
// evaluating state() does all of them. On CPU attention reads the buffers where they lie, quantised
// ones too; on other devices plain MLX ops do the same. Shapes and dtype follow from the first
// step; an Error says when a later one does not fit. Not thread-safe, not differentiable.
class KvStore {
 public:
  virtual ~KvStore() = default;

  // Does `step` with new keys [B, Hkv, L, D] and values [B, Hkv, L, Dv]. attend() then attends q to
  // the view, of which the new tokens are the end; append() returns the view as floats.
  virtual mx::array attend(const KvStep& step, const mx::array& q, const mx::array& k,
                           const mx::array& v, const AttentionOptions& o) = 0;
  virtual std::pair<mx::array, mx::array> append(const KvStep& step, const mx::array& k,
                                                 const mx::array& v) = 0;
  // A layer's step on x [B, L, plan->width()] with `step` in it: what `plan` computes, which has
  // attention. Shared attention sees the view of the last step; `step` then has nothing else.
  // per_layer [B, L, plan->per_layer()] where the plan has that. None where the store cannot
  // (another device, keys and values that are no f32, a layer that does not fit): nothing has
  // happened then. `o` has neither mask nor sinks.
  virtual std::optional<mx::array> layer_step(const KvStep&, const mx::array& /*x*/,
                                              const std::optional<mx::array>& /*per_layer*/,
                                              const std::shared_ptr<const LayerPlan>&,
                                              const std::optional<StepRope>&,
                                              const AttentionOptions& /*o*/) {
    return std::nullopt;
  }
  // Attends to the view of the last step again.
  virtual mx::array attend(const KvView& view, const mx::array& q, const AttentionOptions& o) = 0;
  // Does `step` without new tokens.
  virtual void settle(const KvStep& step) = 0;

  virtual std::vector<mx::array> state() const = 0;
  virtual size_t nbytes() const = 0;
  // A store of its own with the same contents. Evaluates pending steps.
  virtual std::unique_ptr<KvStore> clone() const = 0;

  // The slots of `runs` as arrays [B, Hkv, count, ...]: keys and values, or when quantised codes
  // (uint32, packed as mx::quantize does), scales and biases of keys, then of values. Evaluates
  // pending steps. `quantization` says which.
  virtual std::vector<mx::array> contents(const std::vector<KvRun>& runs) const = 0;
  virtual std::optional<KvQuantization> quantization() const = 0;
  // Replaces everything by such arrays, of which `copies` go to slots.
  virtual void restore(const std::vector<mx::array>& contents,
                       std::optional<KvQuantization> quantization,
                       const std::vector<KvCopy>& copies, int capacity) = 0;
};

// For the default device of this thread.
std::unique_ptr<KvStore> make_kv_store();
// By plain ops on any device, the reference of the other one.
std::unique_ptr<KvStore> make_plain_kv_store();

}  // namespace mlxcpp::kernels

#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <mlx/mlx.h>

#include "kernels/attention.h"
#include "kernels/rope.h"

namespace mlxcpp {

namespace mx = mlx::core;

// What one decoder layer remembers of the tokens it has seen. One object a layer, owned by the
// session, never by the model; models see this interface only, so that every kind (rotating,
// quantised, batched) fits every model. Not thread-safe.
class KVCache {
 public:
  virtual ~KVCache() = default;

  // Tokens seen so far: where the next one stands (for rope). Per row in a batched cache.
  virtual int offset() const = 0;
  virtual kernels::Positions positions() const { return offset(); }

  // Appends keys and values [B, Hkv, L, D], and attends q [B, H, L, D] to what the cache then
  // holds. The mask follows from the kind of cache; o.causal and o.window are the model's own
  // demands on top. Returns [B, H, L, Dv].
  virtual mx::array attend(const mx::array& q, const mx::array& k, const mx::array& v,
                           const kernels::AttentionOptions& o) = 0;
  // Attends without appending: layers that share another layer's keys and values (Gemma 3n). Call
  // it after that layer's attend() of the same step.
  virtual mx::array attend_shared(const mx::array& q, const kernels::AttentionOptions& o) = 0;
  // Appends and returns everything the step may see as arrays (MLA's latent, models with attention
  // of their own).
  virtual std::pair<mx::array, mx::array> update(const mx::array& k, const mx::array& v) = 0;

  virtual bool is_trimmable() const { return false; }
  virtual int trim(int) { return 0; }  // takes back the last n positions; returns how many it could
  virtual std::unique_ptr<KVCache> copy() const = 0;  // named, not a copy constructor: it costs
  virtual std::vector<mx::array> state()
      const = 0;  // evaluate these and every pending append has happened
  virtual size_t nbytes() const = 0;
};
using Caches = std::vector<std::unique_ptr<KVCache>>;

// Attention for models: through the cache, or plainly when there is none (training, tests).
inline mx::array attend(const mx::array& q, const mx::array& k, const mx::array& v, KVCache* cache,
                        const kernels::AttentionOptions& o) {
  return cache ? cache->attend(q, k, v, o) : kernels::attention(q, k, v, o);
}

inline kernels::Positions positions(const KVCache* cache) {
  return cache ? cache->positions() : kernels::Positions(0);
}

}  // namespace mlxcpp

#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <mlx/mlx.h>

#include "core/error.h"
#include "kernels/attention.h"
#include "kernels/rope.h"

namespace mlxcpp {

namespace mx = mlx::core;

struct CacheState;

// How caches are made for a model; from GenerateParameters.
struct CacheOptions {
  // Bound of the layers that see everything (their own window bounds sliding ones).
  std::optional<int> max_size = {};
  std::optional<int> bits = {};  // 8 or 4: keys and values quantised, rotating ones too
  int group_size = 64;
  int quantized_start = 0;  // tokens kept in full precision until a cache has this many
};

// What one decoder layer remembers of the tokens it has seen. One object a layer, owned by the
// session, never by the model; models see this interface only, so that every kind (rotating,
// quantised, batched) fits every model. Not thread-safe.
class KVCache {
 public:
  virtual ~KVCache() = default;

  // Tokens seen so far: where the next one stands (for rope). Per row in a batched cache.
  virtual int offset() const = 0;
  virtual kernels::Positions positions() const { return offset(); }
  // A prompt that comes in pieces says beforehand how long the sequence will be when it is through:
  // some rotary embeddings depend on that length.
  void expect(int length) { expected_ = length; }
  int expected() const { return expected_; }

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
  // For models that use update(): which of the S keys that it is about to return each of its L
  // queries sees, bool, broadcasting to [B, H, L, S].
  virtual mx::array mask(int L, std::optional<int> window = {}) const;

  // From now on tokens stand `shift` after their number, for rope. 0 again by 0. Caches that know
  // no positions take any; the default refuses others than 0.
  virtual void shift_positions(int shift) {
    if (shift != 0) throw Error("this kind of cache has no positions that media could shift");
  }

  virtual bool is_trimmable() const { return false; }
  virtual int trim(int) { return 0; }  // takes back the last n positions; returns how many it could
  virtual std::unique_ptr<KVCache> copy() const = 0;  // named, not a copy constructor: it costs
  virtual std::vector<mx::array> state()
      const = 0;  // evaluate these and every pending append has happened
  virtual size_t nbytes() const = 0;

  // What a file needs to hold (prompt_cache.h). Evaluates pending appends. The default is an Error.
  virtual CacheState saved() const;

 private:
  int expected_ = 0;
};
using Caches = std::vector<std::unique_ptr<KVCache>>;

// The cache of an attention layer that sees everything, or only the last `window` tokens:
//   no window, no options.max_size  grows
//   no window, options.max_size     holds that many: the first 4 and the latest
//   window                          holds the latest `window` (or max_size, if that is less)
// quantised as the options say. Error if they cannot be met.
std::unique_ptr<KVCache> make_cache(const CacheOptions& options = {},
                                    std::optional<int> window = {});

// bool [n, offset + n]: query i of n stands at offset + i and sees what is not after it, and of
// that the last `window`. left_padding (int [B]): keys before it are not seen, [B, 1, n, offset+n].
mx::array create_causal_mask(int n, int offset = 0, std::optional<int> window = {},
                             const std::optional<mx::array>& left_padding = {});

// Attention for models: through the cache, or plainly when there is none (training, tests).
inline mx::array attend(const mx::array& q, const mx::array& k, const mx::array& v, KVCache* cache,
                        const kernels::AttentionOptions& o) {
  return cache ? cache->attend(q, k, v, o) : kernels::attention(q, k, v, o);
}

inline kernels::Positions positions(const KVCache* cache) {
  return cache ? cache->positions() : kernels::Positions(0);
}
inline int expected_length(const KVCache* cache) { return cache ? cache->expected() : 0; }

// `count` tokens are to come, in one piece or several.
inline void expect(const Caches& caches, int count) {
  for (const auto& cache : caches) cache->expect(cache->offset() + count);
}

}  // namespace mlxcpp

#pragma once

#include <utility>

#include "lm_common/kv_cache.h"
#include "lm_common/kv_cache/cache_state.h"

namespace mlxcpp {

// Several caches of one layer (hybrid layers that attend and recur). The layer takes the one it
// needs; called as one cache, the first answers.
class CacheList final : public KVCache {
 public:
  // Error when empty.
  explicit CacheList(Caches caches) : caches_(std::move(caches)) {
    if (caches_.empty()) throw Error("a cache list needs at least one cache");
  }

  int size() const { return static_cast<int>(caches_.size()); }
  KVCache& operator[](int i) const { return *caches_.at(i); }

  int offset() const override { return caches_[0]->offset(); }
  kernels::Positions positions() const override { return caches_[0]->positions(); }
  mx::array attend(const mx::array& q, const mx::array& k, const mx::array& v,
                   const kernels::AttentionOptions& o) override {
    return caches_[0]->attend(q, k, v, o);
  }
  mx::array attend_shared(const mx::array& q, const kernels::AttentionOptions& o) override {
    return caches_[0]->attend_shared(q, o);
  }
  std::pair<mx::array, mx::array> update(const mx::array& k, const mx::array& v) override {
    return caches_[0]->update(k, v);
  }
  mx::array mask(int L, std::optional<int> window = {}) const override {
    return caches_[0]->mask(L, window);
  }
  void shift_positions(int shift) override {
    for (const auto& cache : caches_) cache->shift_positions(shift);
  }
  bool is_trimmable() const override;
  int trim(int n) override;
  std::unique_ptr<KVCache> copy() const override;
  std::vector<mx::array> state() const override;
  size_t nbytes() const override;
  CacheState saved() const override;

 private:
  Caches caches_;
};

}  // namespace mlxcpp

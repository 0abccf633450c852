#pragma once

#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "lm_common/kv_cache.h"

namespace mlxcpp {

// A cache during one step of a prompt with media: positions and what tokens see are the prompt's.
// The step goes into the cache it stands for.
class StepCache final : public KVCache {
 public:
  // What the layers of a step share.
  struct Step {
    std::optional<mx::array> positions;  // int32 [3, B, L]
    // bool [L, L]: later tokens of the step that a token sees all the same.
    std::optional<mx::array> ahead;
    // Masks made so far, by the number of keys and the window.
    std::map<std::pair<int, int>, mx::array> masks = {};
  };

  StepCache(KVCache& cache, std::shared_ptr<Step> step) : cache_(cache), step_(std::move(step)) {}

  int offset() const override { return cache_.offset(); }
  kernels::Positions positions() const override;
  mx::array attend(const mx::array& q, const mx::array& k, const mx::array& v,
                   const kernels::AttentionOptions& o) override;
  mx::array attend_shared(const mx::array& q, const kernels::AttentionOptions& o) override;
  std::pair<mx::array, mx::array> update(const mx::array& k, const mx::array& v) override;
  mx::array mask(int L, std::optional<int> window = {}) const override;
  std::unique_ptr<KVCache> copy() const override { return cache_.copy(); }
  std::vector<mx::array> state() const override { return cache_.state(); }
  size_t nbytes() const override { return cache_.nbytes(); }

  // The caches of all layers for one step.
  static Caches wrap(const Caches& caches, const std::shared_ptr<Step>& step);

 private:
  kernels::AttentionOptions with_mask(int L, const kernels::AttentionOptions& o) const;

  KVCache& cache_;
  std::shared_ptr<Step> step_;
};

}  // namespace mlxcpp

#include "lm_common/kv_cache/step_cache.h"

namespace mlxcpp {

kernels::Positions StepCache::positions() const {
  return step_->positions ? kernels::Positions(*step_->positions) : cache_.positions();
}

mx::array StepCache::mask(int L, std::optional<int> window) const {
  mx::array own = cache_.mask(L, window);  // [..., L, S]
  if (!step_->ahead) return own;
  const int S = own.shape(-1);
  const std::pair key(S, window.value_or(0));
  if (const auto it = step_->masks.find(key); it != step_->masks.end()) return it->second;
  mx::array ahead = *step_->ahead;  // of the last L of S keys
  if (S > L) ahead = mx::concatenate({mx::zeros({L, S - L}, mx::bool_), ahead}, 1);
  const mx::array both = mx::logical_or(own, ahead);
  step_->masks.emplace(key, both);
  return both;
}

kernels::AttentionOptions StepCache::with_mask(int L, const kernels::AttentionOptions& o) const {
  if (!step_->ahead) return o;
  if (o.mask || !o.causal)
    throw Error("media whose tokens see each other need a decoder with causal attention");
  kernels::AttentionOptions with = o;
  with.mask = mask(L, o.window);
  return with;
}

mx::array StepCache::attend(const mx::array& q, const mx::array& k, const mx::array& v,
                            const kernels::AttentionOptions& o) {
  return cache_.attend(q, k, v, with_mask(q.shape(2), o));
}

// Layers that share keys come after the step was appended: the mask is the sharing layer's.
mx::array StepCache::attend_shared(const mx::array& q, const kernels::AttentionOptions& o) {
  if (!step_->ahead) return cache_.attend_shared(q, o);
  throw Error("media whose tokens see each other are not supported with shared keys");
}

std::pair<mx::array, mx::array> StepCache::update(const mx::array& k, const mx::array& v) {
  return cache_.update(k, v);
}

Caches StepCache::wrap(const Caches& caches, const std::shared_ptr<Step>& step) {
  Caches out;
  for (const auto& cache : caches) out.push_back(std::make_unique<StepCache>(*cache, step));
  return out;
}

}  // namespace mlxcpp

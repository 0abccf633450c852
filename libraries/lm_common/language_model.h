#pragma once

#include <functional>
#include <memory>
#include <optional>

#include <mlx/mlx.h>

#include "core/json.h"
#include "lm_common/kv_cache.h"
#include "lm_common/lm_input.h"
#include "nn/module.h"

namespace mlxcpp {

// A causal language model. Models never see the kind of cache, the device, or integer offsets.
class LanguageModel : public nn::Module {
 public:
  // ids int32 [B, L] -> [B, L, hidden], as the first layer gets them.
  virtual mx::array embed(const mx::array& ids) const = 0;
  // ids int32 [B, L] -> [B, L, hidden] after the final norm. `caches` is empty or one a layer as
  // make_caches() gives them.
  virtual mx::array hidden(const mx::array& ids, Caches& caches) const = 0;
  // The same from embeddings [B, L, hidden] that stand in for those of the ids [B, L]: pictures and
  // sound among the tokens. Error for models that cannot.
  virtual mx::array hidden_from(const mx::array& embeddings, const mx::array& ids,
                                Caches& caches) const;
  // [..., hidden] -> [..., vocab]. Apart from hidden(), so that prefill takes the last row only.
  virtual mx::array logits(const mx::array& hidden) const = 0;

  mx::array operator()(const mx::array& ids, Caches& caches) const {
    return logits(hidden(ids, caches));
  }

  // The prompt from token number `cached` on, its media encoded; those of `features` (may be null)
  // are not encoded again. Models without media refuse them.
  virtual PreparedPrompt prepare(const LMInput& input, size_t cached, FeatureCache* features) const;
  // How many of a prompt's first `common` tokens, which caches hold, need not be computed again.
  virtual size_t reusable(const LMInput& input, size_t common) const;

  virtual Caches make_caches(const CacheOptions& options = {}) const = 0;
  // Published names -> the tree's names: fused, split, transposed or superfluous tensors.
  virtual nn::Weights sanitize(nn::Weights weights) const { return weights; }
};

// One step of a prepared prompt, its tokens [begin, end): hidden() of them, [1, end - begin,
// hidden]. The caches hold what is before. step_end() says where steps may end.
mx::array prompt_step(const LanguageModel& model, const PreparedPrompt& prompt, size_t begin,
                      size_t end, Caches& caches);

using Creator = std::function<std::unique_ptr<LanguageModel>(const Json& config)>;

// A Creator from a function that takes the family's config struct.
template <class Config>
Creator creator(std::unique_ptr<LanguageModel> (*make)(const Config&)) {
  return [make](const Json& json) { return make(read_config<Config>(json)); };
}

}  // namespace mlxcpp

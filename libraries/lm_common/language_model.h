#pragma once

#include <functional>
#include <memory>
#include <optional>

#include <mlx/mlx.h>

#include "core/json.h"
#include "lm_common/kv_cache.h"
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
  // sound among the tokens. The default is an Error.
  virtual mx::array hidden_from(const mx::array&, const mx::array&, Caches&) const {
    throw Error("this model takes no embeddings in place of tokens");
  }
  // [..., hidden] -> [..., vocab]. Apart from hidden(), so that prefill takes the last row only.
  virtual mx::array logits(const mx::array& hidden) const = 0;

  mx::array operator()(const mx::array& ids, Caches& caches) const {
    return logits(hidden(ids, caches));
  }

  virtual Caches make_caches(const CacheOptions& options = {}) const = 0;
  // Published names -> the tree's names: fused, split, transposed or superfluous tensors.
  virtual nn::Weights sanitize(nn::Weights weights) const { return weights; }
};

using Creator = std::function<std::unique_ptr<LanguageModel>(const Json& config)>;

// A Creator from a function that takes the family's config struct.
template <class Config>
Creator creator(std::unique_ptr<LanguageModel> (*make)(const Config&)) {
  return [make](const Json& json) { return make(read_config<Config>(json)); };
}

}  // namespace mlxcpp

#pragma once

#include "lm_common/language_model.h"

namespace mlxcpp {

// Something that changes a model and can be taken away again: LoRA, DoRA. Used on the thread of
// the model's arrays.
class ModelAdapter {
 public:
  virtual ~ModelAdapter() = default;
  virtual void load(LanguageModel& model) const = 0;    // puts it on
  virtual void unload(LanguageModel& model) const = 0;  // takes it off: the model is as before
  virtual void fuse(LanguageModel& model) const = 0;    // makes it part of the weights, for good
};

// An adapter is on until the end of the scope.
class AdapterScope {
 public:
  AdapterScope(LanguageModel& model, const ModelAdapter& adapter)
      : model_(model), adapter_(adapter) {
    adapter_.load(model_);
  }
  ~AdapterScope() { adapter_.unload(model_); }
  AdapterScope(const AdapterScope&) = delete;
  AdapterScope& operator=(const AdapterScope&) = delete;

 private:
  LanguageModel& model_;
  const ModelAdapter& adapter_;
};

}  // namespace mlxcpp

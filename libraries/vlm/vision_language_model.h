#pragma once

#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "lm_common/language_model.h"

namespace mlxcpp::vlm {

// A language model and the towers that see and hear for it. A family derives from it: it adds its
// towers as further children, says what they make of a medium, what its checkpoints call all
// that, and, where they differ from plain text, where tokens stand and what they see.
class VisionLanguageModel : public LanguageModel {
 public:
  explicit VisionLanguageModel(std::unique_ptr<LanguageModel> text)
      : language_model(this, "language_model", std::move(text)) {}

  mx::array embed(const mx::array& ids) const override { return language_model->embed(ids); }
  mx::array hidden(const mx::array& ids, Caches& caches) const override {
    return language_model->hidden(ids, caches);
  }
  mx::array hidden_from(const mx::array& embeddings, const mx::array& ids,
                        Caches& caches) const override {
    return language_model->hidden_from(embeddings, ids, caches);
  }
  mx::array logits(const mx::array& hidden) const override {
    return language_model->logits(hidden);
  }
  Caches make_caches(const CacheOptions& options) const override {
    return language_model->make_caches(options);
  }

  // Puts what encode() makes in the place of the placeholders. Media that lie in the caches whole
  // are not looked at; those found in `features` are not encoded again.
  PreparedPrompt prepare(const LMInput& input, size_t cached,
                         FeatureCache* features) const override;
  // Names as renamed() gives them; the language model's own go through its sanitize().
  nn::Weights sanitize(nn::Weights weights) const override;

  // What stands for a medium's placeholders: [count, hidden], as embed() scales it. Error if its
  // values are not what the towers take.
  virtual mx::array encode(const Medium& medium) const = 0;

 protected:
  // A prefix of published names and what the tree has instead of it.
  using Prefixes = std::vector<std::pair<std::string_view, std::string_view>>;
  // The first that fits is taken; other names stay.
  virtual Prefixes prefixes() const = 0;
  // Transposes and drops what the towers need otherwise; names are the tree's already.
  virtual nn::Weights sanitize_towers(nn::Weights weights) const { return weights; }
  // Positions, shift and groups of the prompt's tokens from number `cached` on.
  virtual void arrange(const LMInput& input, size_t cached, PreparedPrompt& prompt) const;

 public:
  nn::Child<LanguageModel> language_model;
};

// For arrange(): tokens that follow each other and are `placeholder` are one group.
std::vector<int> groups_of_runs(const std::vector<int>& tokens, int placeholder);

// A medium's values under a name; Error when it has none, or not that many axes.
const mx::array& value_of(const Medium& medium, const char* name, size_t axes);

}  // namespace mlxcpp::vlm

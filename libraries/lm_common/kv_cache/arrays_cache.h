#pragma once

#include <optional>
#include <vector>

#include "lm_common/kv_cache.h"
#include "lm_common/kv_cache/cache_state.h"

namespace mlxcpp {

// The arrays that a recurrent layer carries from step to step: convolution and SSM states (Mamba,
// LFM2, gated delta nets). They start absent; the layer sets them. Keys and values it has none:
// attend() and its kin are Errors.
class ArraysCache final : public KVCache {
 public:
  explicit ArraysCache(int size) : arrays_(size) {}
  // Rows of a batch padded on the left; see mask().
  ArraysCache(int size, std::vector<int> left_padding)
      : arrays_(size), left_padding_(std::move(left_padding)) {}

  int size() const { return static_cast<int>(arrays_.size()); }
  std::optional<mx::array>& operator[](int i) { return arrays_.at(i); }
  const std::optional<mx::array>& operator[](int i) const { return arrays_.at(i); }
  // Tokens go by: the layer says so after each step.
  void advance(int n) { offset_ += n; }

  int offset() const override { return offset_; }
  kernels::Positions positions() const override;
  mx::array attend(const mx::array&, const mx::array&, const mx::array&,
                   const kernels::AttentionOptions&) override;
  mx::array attend_shared(const mx::array&, const kernels::AttentionOptions&) override;
  std::pair<mx::array, mx::array> update(const mx::array&, const mx::array&) override;
  // bool [B, L]: which of the next L tokens are no padding. [1, L] of true without padding.
  mx::array mask(int L, std::optional<int> window = {}) const override;
  std::unique_ptr<KVCache> copy() const override;
  std::vector<mx::array> state() const override;
  size_t nbytes() const override;
  CacheState saved() const override;

  static std::unique_ptr<ArraysCache> restored(const CacheState& state);

 private:
  std::vector<std::optional<mx::array>> arrays_;
  std::vector<int> left_padding_;
  int offset_ = 0;
};

}  // namespace mlxcpp

// Small language models for tests, and a cache that any of them can use, written against the
// interface alone.
#pragma once

#include <atomic>
#include <cmath>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "lm_common/language_model.h"
#include "lm_common/position_switch.h"

namespace mlxcpp::testing {

// Keys and values in one array that grows. The size of every update is counted.
class GrowingCache final : public KVCache {
 public:
  explicit GrowingCache(bool trimmable = true) : trimmable_(trimmable) {}

  int offset() const override { return keys_ ? keys_->shape(2) : 0; }
  mx::array attend(const mx::array& q, const mx::array& k, const mx::array& v,
                   const kernels::AttentionOptions& o) override {
    update(k, v);
    return attend_shared(q, o);
  }
  mx::array attend_shared(const mx::array& q, const kernels::AttentionOptions& o) override {
    return kernels::attention(q, *keys_, *values_, o);
  }
  std::pair<mx::array, mx::array> update(const mx::array& k, const mx::array& v) override {
    keys_ = keys_ ? mx::concatenate({*keys_, k}, 2) : k;
    values_ = values_ ? mx::concatenate({*values_, v}, 2) : v;
    return {*keys_, *values_};
  }
  bool is_trimmable() const override { return trimmable_; }
  int trim(int n) override {
    n = std::min(n, offset());
    if (n == offset()) {
      keys_.reset();
      values_.reset();
    } else if (n > 0) {
      keys_ = first(*keys_, offset() - n);
      values_ = first(*values_, keys_->shape(2));
    }
    return n;
  }
  std::unique_ptr<KVCache> copy() const override { return std::make_unique<GrowingCache>(*this); }
  std::vector<mx::array> state() const override {
    return keys_ ? std::vector{*keys_, *values_} : std::vector<mx::array>{};
  }
  size_t nbytes() const override { return keys_ ? keys_->nbytes() + values_->nbytes() : 0; }

 private:
  static mx::array first(const mx::array& a, int n) {
    return mx::slice(a, {0, 0, 0, 0}, {a.shape(0), a.shape(1), n, a.shape(3)});
  }

  bool trimmable_;
  std::optional<mx::array> keys_, values_;
};

// A decoder of two layers with random weights, the same for the same seed: embedding, attention
// with rotary positions and a residual, tied head.
class TinyModel : public LanguageModel {
 public:
  static constexpr int kVocab = 64, kHidden = 32, kHeads = 2, kHeadDim = 16, kLayers = 2;

  explicit TinyModel(uint64_t seed = 7, bool trimmable = true) : trimmable_(trimmable) {
    mx::array key = mx::random::key(seed);
    const auto random = [&](const mx::Shape& shape, float scale) {
      const auto [next, use] = mx::random::split(key);
      key = next;
      return mx::multiply(mx::random::normal(shape, mx::float32, use), mx::array(scale));
    };
    embedding_ = random({kVocab, kHidden}, 1.0f);
    for (int i = 0; i < kLayers; ++i) projections_.push_back(random({kHidden, 3 * kHidden}, 0.3f));
    std::vector<float> inverse;
    for (int i = 0; i < kHeadDim / 2; ++i)
      inverse.push_back(1.0f / std::pow(10000.0f, 2.0f * i / kHeadDim));
    frequencies_ = mx::array(inverse.data(), {kHeadDim / 2});
    std::vector<mx::array> all = projections_;
    all.push_back(*embedding_);
    all.push_back(*frequencies_);
    mx::eval(all);
  }

  mx::array embed(const mx::array& ids) const override { return mx::take(*embedding_, ids, 0); }
  mx::array hidden(const mx::array& ids, Caches& caches) const override {
    computed += ids.shape(1);
    chunks.push_back(ids.shape(1));
    mx::array x = embed(ids);
    const int rows = ids.shape(0), length = ids.shape(1);
    for (int layer = 0; layer < kLayers; ++layer) {
      KVCache* cache = caches.empty() ? nullptr : caches[layer].get();
      const auto parts = mx::split(mx::matmul(x, projections_[layer]), 3, -1);
      const auto heads = [&](const mx::array& a) {
        return mx::transpose(mx::reshape(a, {rows, length, kHeads, kHeadDim}), {0, 2, 1, 3});
      };
      const auto at = positions(cache);
      const mx::array q = kernels::rope(heads(parts[0]), kHeadDim, false, *frequencies_, 1.0f, at);
      const mx::array k = kernels::rope(heads(parts[1]), kHeadDim, false, *frequencies_, 1.0f, at);
      const mx::array seen = attend(q, k, heads(parts[2]), cache, {.scale = 0.25f});
      x = mx::add(x, mx::reshape(mx::transpose(seen, {0, 2, 1, 3}), {rows, length, kHidden}));
    }
    return mx::fast::rms_norm(x, std::nullopt, 1e-5f);
  }
  mx::array logits(const mx::array& hidden) const override {
    rows_of_logits += hidden.shape(1);
    // Flat enough that sampling has a choice.
    return mx::multiply(mx::matmul(hidden, mx::transpose(*embedding_)), mx::array(0.1f));
  }
  Caches make_caches(const CacheOptions& options = {}) const override {
    Caches caches;
    for (int i = 0; i < kLayers; ++i)
      caches.push_back(trimmable_ ? make_cache(options) : std::make_unique<GrowingCache>(false));
    return caches;
  }

  mutable std::atomic<int> computed = 0;        // tokens that went through hidden()
  mutable std::atomic<int> rows_of_logits = 0;  // of those, rows that went through logits()
  mutable std::vector<int> chunks;              // tokens of each call

 private:
  bool trimmable_;
  std::optional<mx::array> embedding_, frequencies_;
  std::vector<mx::array> projections_;
};

// A TinyModel whose keys are of no use once the text has more tokens than that.
struct SwitchingModel final : TinyModel, PositionSwitch {
  explicit SwitchingModel(int length) : length(length) {}
  std::optional<int> switch_length() const override { return length; }

  const int length;
};

// Always answers id + 1 with the next id: what it says is known beforehand.
class CountingModel final : public LanguageModel {
 public:
  explicit CountingModel(int vocab = 64) : vocab_(vocab) {}

  mx::array embed(const mx::array& ids) const override {
    return mx::astype(mx::expand_dims(ids, -1), mx::float32);
  }
  mx::array hidden(const mx::array& ids, Caches& caches) const override {
    computed += ids.shape(1);
    if (on_call) on_call();
    const mx::array x = embed(ids);  // [B, L, 1]
    const mx::array kv = mx::expand_dims(x, 1);
    for (const auto& cache : caches) cache->update(kv, kv);
    return x;
  }
  mx::array logits(const mx::array& hidden) const override {
    const mx::array next =
        mx::remainder(mx::add(hidden, mx::array(1.0f)), mx::array(static_cast<float>(vocab_)));
    const mx::array all = mx::astype(mx::arange(vocab_), mx::float32);
    return mx::multiply(mx::astype(mx::equal(all, next), mx::float32), mx::array(20.0f));
  }
  Caches make_caches(const CacheOptions& = {}) const override {
    Caches caches;
    caches.push_back(std::make_unique<GrowingCache>());
    return caches;
  }

  mutable std::atomic<int> computed = 0;
  std::function<void()> on_call;

 private:
  int vocab_;
};

}  // namespace mlxcpp::testing

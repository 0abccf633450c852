#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "lm_common/kv_cache.h"
#include "lm_common/kv_cache/cache_state.h"
#include "lm_common/kv_cache/kv_layout.h"
#include "lm_common/kv_cache/layer_steps.h"

namespace mlxcpp {

// When and how a cache's numbers are quantised: after the step that takes it to `start` tokens.
struct QuantizeFrom {
  kernels::KvQuantization quantization;
  int start = 0;
};

// Keys and values of an attention layer. Where a token goes (KvLayout), how numbers are stored
// (quantisation) and whether rows stand at positions of their own (left padding) are independent.
class AttentionCache final : public KVCache, public LayerSteps {
 public:
  explicit AttentionCache(KvLayout layout = KvLayout(), std::optional<QuantizeFrom> quantize = {});
  // Rows of a batch whose prompts are padded on the left: row b starts after left_padding[b] tokens
  // that nobody sees. Error for a chunked layout or one that keeps first tokens.
  AttentionCache(KvLayout layout, std::vector<int> left_padding,
                 std::optional<QuantizeFrom> quantize = {});
  // The same with a store of one's own, for tests of the other kind.
  AttentionCache(KvLayout layout, std::optional<QuantizeFrom> quantize,
                 std::unique_ptr<kernels::KvStore> store);

  int offset() const override { return layout_.offset(); }
  kernels::Positions positions() const override;
  mx::array attend(const mx::array& q, const mx::array& k, const mx::array& v,
                   const kernels::AttentionOptions& o) override;
  mx::array attend_shared(const mx::array& q, const kernels::AttentionOptions& o) override;
  std::optional<mx::array> layer_step(const mx::array& x, const std::optional<mx::array>& per_layer,
                                      const std::shared_ptr<const kernels::LayerPlan>& plan,
                                      const std::optional<kernels::StepRope>& rope,
                                      const kernels::AttentionOptions& o) override;
  std::pair<mx::array, mx::array> update(const mx::array& k, const mx::array& v) override;
  mx::array mask(int L, std::optional<int> window = {}) const override;
  void shift_positions(int shift) override { position_shift_ = shift; }
  bool is_trimmable() const override { return layout_.is_trimmable(); }
  int trim(int n) override;
  std::unique_ptr<KVCache> copy() const override;
  std::vector<mx::array> state() const override { return store_->state(); }
  size_t nbytes() const override { return store_->nbytes(); }
  CacheState saved() const override;

  const KvLayout& layout() const { return layout_; }
  const std::vector<int>& left_padding() const { return left_padding_; }
  // Quantised from the next step on, if not before.
  void quantize_from(const QuantizeFrom& quantize) { quantize_ = quantize; }

  // From saved(), or from a file of mlx-lm's. Error if it does not add up.
  static std::unique_ptr<AttentionCache> restored(const CacheState& state);

  // One cache of caches with one row each, their tokens aligned at the end. All of one layout that
  // keeps no first tokens, and stored alike; else Error. Evaluates them.
  static std::unique_ptr<AttentionCache> merged(std::span<const AttentionCache* const> rows);
  // Row b alone, without its padding; and the rows named, in that order.
  std::unique_ptr<AttentionCache> row(int b) const;
  std::unique_ptr<AttentionCache> rows(const std::vector<int>& which) const;

 private:
  // Everything stored, oldest first. Evaluates pending steps.
  std::vector<mx::array> contents() const;
  void set_contents(const std::vector<mx::array>& contents,
                    std::optional<kernels::KvQuantization> quantization, int offset);
  // The next step, as attend() and update() do it, and the layout after it.
  kernels::KvStep plan(KvLayout& next, int count) const;
  void done(KvLayout next, kernels::KvStep& step);
  kernels::AttentionOptions bounded(const kernels::AttentionOptions& o) const;

  int position_shift_ = 0;
  KvLayout layout_;
  std::optional<QuantizeFrom> quantize_;
  std::vector<int> left_padding_;  // per row, in tokens of the layout; empty: none
  std::vector<int> shift_;         // per row: position of a token minus its number in the layout
  mutable std::unique_ptr<kernels::KvStore> store_;
  kernels::KvView seen_;     // by the last step
  bool handed_out_ = false;  // update() gave arrays that may be the buffers
  bool fresh_ = false;       // so the next step must not write over them
};

}  // namespace mlxcpp

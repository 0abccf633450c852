#include "lm_common/kv_cache/attention_cache.h"

#include <algorithm>

namespace mlxcpp {
namespace {

std::string count_text(int n) { return std::to_string(n); }

}  // namespace

AttentionCache::AttentionCache(KvLayout layout, std::optional<QuantizeFrom> quantize)
    : AttentionCache(std::move(layout), quantize, kernels::make_kv_store()) {}

AttentionCache::AttentionCache(KvLayout layout, std::optional<QuantizeFrom> quantize,
                               std::unique_ptr<kernels::KvStore> store)
    : layout_(std::move(layout)), quantize_(quantize), store_(std::move(store)) {}

AttentionCache::AttentionCache(KvLayout layout, std::vector<int> left_padding,
                               std::optional<QuantizeFrom> quantize)
    : AttentionCache(std::move(layout), quantize) {
  if (layout_.kind() == KvLayout::Kind::chunked || layout_.keep() > 0)
    throw Error(
        "KV cache: rows with padding need a cache that grows, or rotates and keeps no "
        "first tokens");
  left_padding_ = std::move(left_padding);
  for (const int n : left_padding_) {
    if (n < 0) throw Error("KV cache: a left padding of {} is negative", n);
    shift_.push_back(-n);
  }
}

kernels::Positions AttentionCache::positions() const {
  if (left_padding_.empty()) return offset();
  std::vector<int> at = shift_;
  for (int& p : at) p += offset();
  return mx::array(at.data(), {static_cast<int>(at.size())}, mx::int32);
}

kernels::KvStep AttentionCache::plan(KvLayout& next, int count) const {
  const int first = layout_.first_listed();
  kernels::KvStep step = next.plan(count);
  step.fresh = fresh_;
  if (quantize_ && !store_->quantization() && offset() >= quantize_->start && offset() > 0)
    step.quantize = quantize_->quantization;
  for (const int padding : left_padding_)
    step.view.first_key.push_back(std::max(0, padding - first));
  return step;
}

void AttentionCache::done(KvLayout next, kernels::KvStep& step) {
  layout_ = std::move(next);
  seen_ = std::move(step.view);
  fresh_ = false;
}

kernels::AttentionOptions AttentionCache::bounded(const kernels::AttentionOptions& o) const {
  kernels::AttentionOptions bounded = o;
  if (layout_.kind() == KvLayout::Kind::rotating)
    bounded.window = std::min(o.window.value_or(layout_.size()), layout_.size());
  return bounded;
}

mx::array AttentionCache::attend(const mx::array& q, const mx::array& k, const mx::array& v,
                                 const kernels::AttentionOptions& o) {
  KvLayout next = layout_;
  auto step = plan(next, k.ndim() == 4 ? k.shape(2) : 0);
  auto y = store_->attend(step, q, k, v, bounded(o));
  done(std::move(next), step);
  return y;
}

mx::array AttentionCache::attend_shared(const mx::array& q, const kernels::AttentionOptions& o) {
  return store_->attend(seen_, q, bounded(o));
}

std::pair<mx::array, mx::array> AttentionCache::update(const mx::array& k, const mx::array& v) {
  KvLayout next = layout_;
  auto step = plan(next, k.ndim() == 4 ? k.shape(2) : 0);
  auto arrays = store_->append(step, k, v);
  done(std::move(next), step);
  handed_out_ = true;
  return arrays;
}

mx::array AttentionCache::mask(int L, std::optional<int> window) const {
  const int S = layout_.listed(L), seen = S - L;
  kernels::AttentionOptions o;
  o.window = window;
  o = bounded(o);
  std::optional<mx::array> padding;
  if (!left_padding_.empty()) {
    std::vector<int> first;
    for (const int n : left_padding_) first.push_back(std::max(0, n - layout_.first_listed()));
    padding = mx::array(first.data(), {static_cast<int>(first.size())}, mx::int32);
  }
  auto mask = create_causal_mask(L, seen, o.window, padding);
  if (layout_.kind() != KvLayout::Kind::chunked) return mask;
  const auto block = [&](const mx::array& numbers) {
    return mx::floor_divide(numbers + mx::array(layout_.first_listed()), mx::array(layout_.size()));
  };
  return mx::logical_and(mask, mx::equal(block(mx::reshape(mx::arange(S), {1, S})),
                                         block(mx::reshape(mx::arange(seen, S), {L, 1}))));
}

int AttentionCache::trim(int n) {
  if (layout_.has_tail() && layout_.is_trimmable()) {
    KvLayout next = layout_;
    auto step = plan(next, 0);
    store_->settle(step);
    done(std::move(next), step);
  }
  const int trimmed = layout_.trim(n);
  if (trimmed > 0 && handed_out_) fresh_ = true;
  return trimmed;
}

std::unique_ptr<KVCache> AttentionCache::copy() const {
  auto copy = std::make_unique<AttentionCache>(layout_, quantize_, store_->clone());
  copy->left_padding_ = left_padding_;
  copy->shift_ = shift_;
  copy->seen_ = seen_;
  return copy;
}

std::vector<mx::array> AttentionCache::contents() const {
  if (!layout_.has_tail()) return store_->contents(layout_.stored());
  const auto settled = copy();
  auto& cache = static_cast<AttentionCache&>(*settled);
  cache.quantize_.reset();
  KvLayout next = cache.layout_;
  auto step = cache.plan(next, 0);
  cache.store_->settle(step);
  cache.done(std::move(next), step);
  return cache.store_->contents(cache.layout_.stored());
}

void AttentionCache::set_contents(const std::vector<mx::array>& contents,
                                  std::optional<kernels::KvQuantization> quantization, int offset) {
  if (contents.empty()) return;
  if (contents.front().ndim() != 4) throw Error("KV cache: expected arrays of 4 axes");
  const auto copies = layout_.restore(offset, contents.front().shape(2));
  store_->restore(contents, quantization, copies, std::max(1, layout_.capacity()));
}

CacheState AttentionCache::saved() const {
  const auto arrays = contents();
  const auto q = store_->quantization();
  CacheState s;
  const bool batched = !left_padding_.empty();
  const bool rotating = layout_.kind() == KvLayout::Kind::rotating;
  const std::string place = rotating                                    ? "Rotating"
                            : layout_.kind() == KvLayout::Kind::chunked ? "Chunked"
                                                                        : "";
  s.kind = std::string(batched ? "Batch" : "") + (q ? "Quantized" : "") + place + "KVCache";
  const int stored = layout_.stored_count();
  if (batched && rotating)
    s.meta = {count_text(layout_.size()), count_text(offset()), count_text(stored), "False"};
  else if (rotating)
    s.meta = {count_text(layout_.keep()), count_text(layout_.size()), count_text(offset()),
              count_text(stored)};
  else if (layout_.kind() == KvLayout::Kind::chunked)
    s.meta = {count_text(layout_.size()), count_text(offset() - stored)};
  else if (q && !batched)
    s.meta = {count_text(offset())};
  if (q) {
    s.meta.push_back(count_text(q->group_size));
    s.meta.push_back(count_text(q->bits));
  }
  s.meta_is_list = !s.meta.empty();
  for (size_t i = 0; i < arrays.size(); ++i)
    s.arrays.emplace_back(
        q ? count_text(static_cast<int>(i / 3)) + "." + count_text(static_cast<int>(i % 3))
          : count_text(static_cast<int>(i)),
        arrays[i]);
  if (batched) {
    const auto rows = static_cast<int>(left_padding_.size());
    auto at = std::get<mx::array>(positions());
    std::vector<int> padding = left_padding_;
    for (int& n : padding) n -= offset() - stored;  // counted from the first token in the file
    s.arrays.emplace_back("2", at);
    s.arrays.emplace_back("3", mx::array(padding.data(), {rows}, mx::int32));
  }
  return s;
}

}  // namespace mlxcpp

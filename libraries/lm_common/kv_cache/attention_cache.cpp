#include "lm_common/kv_cache/attention_cache.h"

#include <algorithm>

namespace mlxcpp {
namespace {

constexpr int kMaxPosition = 1 << 28;  // in a file

std::vector<int> integers(const mx::array* a) {
  if (!a) throw Error("expected an array of integers");
  auto row = mx::contiguous(mx::astype(mx::flatten(*a), mx::int32));
  row.eval();
  return {row.data<int>(), row.data<int>() + row.size()};
}

// Tokens [begin, end) of each array.
std::vector<mx::array> token_range(const std::vector<mx::array>& arrays, int begin, int end) {
  std::vector<mx::array> parts;
  for (const auto& a : arrays) {
    auto stop = a.shape();
    stop[2] = end;
    parts.push_back(mx::slice(a, {0, 0, begin, 0}, stop));
  }
  return parts;
}

std::vector<mx::array> joined(const std::vector<std::vector<mx::array>>& parts, int axis) {
  std::vector<mx::array> all;
  for (size_t i = 0; i < parts.front().size(); ++i) {
    std::vector<mx::array> pieces;
    for (const auto& p : parts) pieces.push_back(p[i]);
    all.push_back(mx::concatenate(pieces, axis));
  }
  return all;
}

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
  if (left_padding_.empty()) return offset() + position_shift_;
  std::vector<int> at = shift_;
  for (int& p : at) p += offset() + position_shift_;
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

std::optional<mx::array> AttentionCache::layer_step(
    const mx::array& x, const std::optional<mx::array>& per_layer,
    const std::shared_ptr<const kernels::LayerPlan>& plan_of_layer,
    const std::optional<kernels::StepRope>& rope, const kernels::AttentionOptions& o) {
  if (plan_of_layer->heads()->shared) {
    kernels::KvStep again;
    again.view = seen_;
    return store_->layer_step(again, x, per_layer, plan_of_layer, rope, bounded(o));
  }
  KvLayout next = layout_;
  auto step = plan(next, x.ndim() == 3 ? x.shape(1) : 0);
  auto y = store_->layer_step(step, x, per_layer, plan_of_layer, rope, bounded(o));
  if (y) done(std::move(next), step);
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
  copy->position_shift_ = position_shift_;
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
  if (position_shift_ != 0)
    throw Error(
        "the caches of a prompt with pictures cannot be saved: the file has no room for "
        "their positions");
  const auto arrays = contents();
  const auto q = store_->quantization();
  const bool batched = !left_padding_.empty();
  const bool rotating = layout_.kind() == KvLayout::Kind::rotating;
  const bool chunked = layout_.kind() == KvLayout::Kind::chunked;
  const int stored = layout_.stored_count();

  CacheState s;
  s.kind = std::string(batched ? "Batch" : "") + (q ? "Quantized" : "") +
           (rotating  ? "Rotating"
            : chunked ? "Chunked"
                      : "") +
           "KVCache";
  for (const int side : {0, 1}) {  // keys, values
    if (arrays.empty()) s.add(std::to_string(side), CacheState::None{});
    if (arrays.size() == 2) s.add(std::to_string(side), arrays[side]);
    if (arrays.size() == 6)
      for (const int i : {0, 1, 2}) s.add(fmt::format("{}.{}", side, i), arrays[3 * side + i]);
  }
  int next = 2;
  const auto add = [&](CacheState::Value v) { s.add(std::to_string(next++), std::move(v)); };
  if (batched) {
    const auto rows = static_cast<int>(left_padding_.size());
    std::vector<int> padding = left_padding_;
    for (int& n : padding) n -= offset() - stored;  // counted from the first token in the file
    add(std::get<mx::array>(positions()));
    add(mx::array(padding.data(), {rows}, mx::int32));
    if (rotating) {
      add(layout_.size());
      add(offset());
    }
    add(stored);
    if (rotating) add(0);  // not rotated: oldest first
  } else {
    add(offset());
    if (rotating) {
      add(layout_.keep());
      add(layout_.size());
      add(stored);
    } else if (chunked) {
      add(layout_.size());
      add(offset() - stored);
    }
  }
  if (q) {
    add(q->group_size);
    add(q->bits);
  }
  return s;
}

std::unique_ptr<AttentionCache> AttentionCache::restored(const CacheState& s) {
  std::string_view kind = s.kind;
  const auto take = [&](std::string_view prefix) {
    const bool has = kind.starts_with(prefix);
    if (has) kind.remove_prefix(prefix.size());
    return has;
  };
  const bool batched = take("Batch"), quantized = take("Quantized"), rotating = take("Rotating"),
             chunked = take("Chunked");
  if (kind != "KVCache" || (batched && chunked)) throw Error("unknown kind of cache '{}'", s.kind);

  std::vector<mx::array> arrays;
  for (const char* side : {"0", "1"}) {
    if (!quantized) {
      if (const auto* a = s.array(side)) arrays.push_back(*a);
    } else {
      for (const char* part : {".0", ".1", ".2"})
        if (const auto* a = s.array(side + std::string(part))) arrays.push_back(*a);
    }
  }
  if (!arrays.empty() && arrays.size() != (quantized ? 6u : 2u))
    throw Error("expected keys and values, found {} arrays", arrays.size());
  for (const auto& a : arrays)
    if (a.ndim() != 4 || a.shape(2) != arrays[0].shape(2))
      throw Error("expected keys and values [B, Hkv, tokens, D] of one length");
  const int slots = arrays.empty() ? 0 : arrays[0].shape(2);

  int next = 2;
  const auto number = [&] { return s.number(std::to_string(next++)); };
  std::vector<int> positions, padding;
  int offset = 0, keep = 0, size = 0, index = 0, start = 0;
  bool turned = false;
  if (batched) {
    positions = integers(s.array(std::to_string(next++)));
    padding = integers(s.array(std::to_string(next++)));
    if (rotating) size = number(), offset = number();
    index = number();
    if (rotating)
      turned = number() != 0;
    else
      offset = index;
  } else {
    offset = number();
    index = offset;
    if (rotating) keep = number(), size = number(), index = number();
    if (chunked) size = number(), start = number();
    if (chunked) index = offset - start;
    turned = rotating && index < offset;
  }
  std::optional<kernels::KvQuantization> q;
  if (quantized) {
    const int group = number();
    q = kernels::KvQuantization{number(), group};
  }

  auto layout = rotating  ? KvLayout(KvLayout::Kind::rotating, size, keep)
                : chunked ? KvLayout(KvLayout::Kind::chunked, size)
                          : KvLayout();
  std::optional<QuantizeFrom> quantize;
  if (q) quantize = QuantizeFrom{*q, 0};
  auto cache =
      batched ? std::make_unique<AttentionCache>(layout, std::vector<int>(padding.size()), quantize)
              : std::make_unique<AttentionCache>(layout, quantize);
  if (arrays.empty()) {
    if (offset != 0) throw Error("{} tokens seen, but none stored", offset);
    return cache;
  }
  for (const auto& numbers : {positions, padding, {offset}})
    for (const int n : numbers)
      if (std::abs(n) > kMaxPosition) throw Error("a position of {} is too large", n);
  if (offset < 0 || index < 0 || index > slots || keep > slots || (turned && index < keep))
    throw Error("{} tokens at {} do not fit into {} slots", offset, index, slots);
  // Oldest first; a ring that has turned has its oldest at `index`.
  if (turned && index < slots)
    arrays = joined({token_range(arrays, 0, keep), token_range(arrays, index, slots),
                     token_range(arrays, keep, index)},
                    2);
  else
    arrays = token_range(arrays, 0, index);
  cache->set_contents(arrays, q, offset);
  if (batched) {
    const int stored = arrays[0].shape(2);
    if (padding.size() != positions.size() ||
        static_cast<int>(padding.size()) != arrays[0].shape(0))
      throw Error("{} paddings for {} rows", padding.size(), arrays[0].shape(0));
    for (size_t b = 0; b < padding.size(); ++b) {
      cache->left_padding_[b] = padding[b] + offset - stored;
      cache->shift_[b] = positions[b] - offset;
    }
  }
  return cache;
}

std::unique_ptr<AttentionCache> AttentionCache::merged(std::span<const AttentionCache* const> all) {
  if (all.empty()) throw Error("KV cache: nothing to merge");
  const AttentionCache& first = *all[0];
  std::vector<std::vector<mx::array>> rows;
  int longest = 0;
  for (const AttentionCache* c : all) {
    if (c->layout_.kind() != first.layout_.kind() || c->layout_.size() != first.layout_.size() ||
        c->layout_.keep() != 0 || c->layout_.kind() == KvLayout::Kind::chunked)
      throw Error("KV cache: only caches of one layout, without kept first tokens, can be merged");
    if (!c->left_padding_.empty()) throw Error("KV cache: a cache to merge has rows of its own");
    rows.push_back(c->contents());
    if (rows.back().empty() || rows.back().size() != rows[0].size() ||
        rows.back()[0].shape(0) != 1 || c->store_->quantization() != first.store_->quantization())
      throw Error("KV cache: caches to merge need tokens, one row each, and the same quantisation");
    longest = std::max(longest, rows.back()[0].shape(2));
  }
  std::vector<int> padding;
  for (auto& row : rows) {
    padding.push_back(longest - row[0].shape(2));
    for (auto& a : row)
      a = mx::pad(a, std::vector<std::pair<int, int>>{{0, 0}, {0, 0}, {padding.back(), 0}, {0, 0}});
  }
  auto cache = std::make_unique<AttentionCache>(
      KvLayout(first.layout_.kind(), first.layout_.size()), padding, first.quantize_);
  cache->set_contents(joined(rows, 0), first.store_->quantization(), longest);
  for (size_t b = 0; b < all.size(); ++b) cache->shift_[b] = all[b]->offset() - longest;
  return cache;
}

std::unique_ptr<AttentionCache> AttentionCache::rows(const std::vector<int>& which) const {
  if (left_padding_.empty()) throw Error("KV cache: this cache has no rows of its own");
  std::vector<int> padding, shift;
  for (const int b : which) {
    padding.push_back(left_padding_.at(b));
    shift.push_back(shift_.at(b));
  }
  auto arrays = contents();
  const auto index = mx::array(which.data(), {static_cast<int>(which.size())}, mx::int32);
  for (auto& a : arrays) a = mx::take(a, index, 0);
  auto result = std::make_unique<AttentionCache>(KvLayout(layout_.kind(), layout_.size()),
                                                 std::move(padding), quantize_);
  result->set_contents(arrays, store_->quantization(), offset());
  result->shift_ = std::move(shift);
  return result;
}

std::unique_ptr<AttentionCache> AttentionCache::row(int b) const {
  const auto one = rows({b});
  auto arrays = one->contents();
  const int stored = one->layout_.stored_count();
  const int padding = std::clamp(one->left_padding_[0] - (one->offset() - stored), 0, stored);
  auto result =
      std::make_unique<AttentionCache>(KvLayout(layout_.kind(), layout_.size()), quantize_);
  if (!arrays.empty())
    result->set_contents(token_range(arrays, padding, stored), store_->quantization(),
                         one->offset() + one->shift_[0]);
  return result;
}

}  // namespace mlxcpp

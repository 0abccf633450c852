#include "lm_common/kv_cache/arrays_cache.h"

namespace mlxcpp {
namespace {

[[noreturn]] void refuse() {
  throw Error(
      "an arrays cache holds no keys and values: the layer it was made for does not attend");
}

}  // namespace

kernels::Positions ArraysCache::positions() const {
  if (left_padding_.empty()) return offset_;
  std::vector<int> at;
  for (const int n : left_padding_) at.push_back(offset_ - n);
  return mx::array(at.data(), {static_cast<int>(at.size())}, mx::int32);
}

mx::array ArraysCache::attend(const mx::array&, const mx::array&, const mx::array&,
                              const kernels::AttentionOptions&) {
  refuse();
}
mx::array ArraysCache::attend_shared(const mx::array&, const kernels::AttentionOptions&) {
  refuse();
}
std::pair<mx::array, mx::array> ArraysCache::update(const mx::array&, const mx::array&) {
  refuse();
}

mx::array ArraysCache::mask(int L, std::optional<int>) const {
  const auto at = mx::reshape(mx::arange(offset_, offset_ + L), {1, L});
  if (left_padding_.empty()) return mx::greater_equal(at, mx::array(0));
  const auto rows = static_cast<int>(left_padding_.size());
  return mx::greater_equal(at, mx::array(left_padding_.data(), {rows, 1}, mx::int32));
}

std::unique_ptr<KVCache> ArraysCache::copy() const {
  return std::make_unique<ArraysCache>(*this);  // arrays never change
}

std::vector<mx::array> ArraysCache::state() const {
  std::vector<mx::array> all;
  for (const auto& a : arrays_)
    if (a) all.push_back(*a);
  return all;
}

size_t ArraysCache::nbytes() const {
  size_t n = 0;
  for (const auto& a : arrays_)
    if (a) n += a->nbytes();
  return n;
}

CacheState ArraysCache::saved() const {
  CacheState s;
  s.kind = "ArraysCache";
  for (int i = 0; i < size(); ++i) {
    const std::string path = "0." + std::to_string(i);
    if (arrays_[i])
      s.add(path, mx::contiguous(*arrays_[i]));
    else
      s.add(path, CacheState::None{});
  }
  if (left_padding_.empty()) {
    s.add("1", CacheState::None{});
  } else {  // what is left of the padding, as mlx-lm counts
    s.add("1", std::get<mx::array>(positions()) * mx::array(-1));
  }
  s.add("2", CacheState::None{});  // lengths of rows padded on the right
  s.add("3", offset_);
  return s;
}

std::unique_ptr<ArraysCache> ArraysCache::restored(const CacheState& state) {
  constexpr int kMost = 64;
  int size = 0;
  while (size < kMost && state.has("0." + std::to_string(size))) ++size;
  if (size == 0) throw Error("no arrays");
  auto cache = std::make_unique<ArraysCache>(size);
  for (int i = 0; i < size; ++i)
    if (const auto* a = state.array("0." + std::to_string(i))) cache->arrays_[i] = *a;
  if (state.has("3")) cache->offset_ = state.number("3");
  if (const auto* padding = state.array("1")) {
    auto row = mx::contiguous(mx::astype(mx::flatten(*padding), mx::int32));
    row.eval();
    for (size_t b = 0; b < row.size(); ++b)
      cache->left_padding_.push_back(row.data<int>()[b] + cache->offset_);
  }
  return cache;
}

}  // namespace mlxcpp

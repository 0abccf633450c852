#include "lm_common/kv_cache/arrays_cache.h"

#include <charconv>

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
  s.meta = {std::to_string(size()), std::to_string(offset_)};
  s.meta_is_list = true;
  for (int i = 0; i < size(); ++i)
    if (arrays_[i]) s.arrays.emplace_back("0." + std::to_string(i), mx::contiguous(*arrays_[i]));
  const auto rows = static_cast<int>(left_padding_.size());
  s.arrays.emplace_back("1", mx::array(left_padding_.data(), {rows}, mx::int32));
  return s;
}

std::unique_ptr<ArraysCache> ArraysCache::restored(const CacheState& state) {
  constexpr int kMost = 64;
  const auto number = [](const std::string& text) {
    int n = -1;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
    if (error != std::errc() || end != text.data() + text.size() || n < 0)
      throw Error("'{}' is no count", text);
    return n;
  };
  std::vector<std::pair<int, mx::array>> found;
  std::vector<int> padding;
  int size = 0, offset = 0;
  for (const auto& [path, array] : state.arrays) {
    if (path.starts_with("0.")) {
      found.emplace_back(number(path.substr(2)), array);
      size = std::max(size, found.back().first + 1);
    } else if (path == "1" && array.size() > 0) {
      auto row = mx::contiguous(mx::astype(mx::flatten(array), mx::int32));
      row.eval();
      padding.assign(row.data<int>(), row.data<int>() + row.size());
    }
  }
  if (state.meta.size() == 2) {
    size = std::max(size, number(state.meta[0]));
    offset = number(state.meta[1]);
  }
  if (size > kMost) throw Error("{} arrays in one cache are too many", size);
  auto cache = std::make_unique<ArraysCache>(size, padding);
  cache->offset_ = offset;
  for (const auto& [i, array] : found) cache->arrays_[i] = array;
  return cache;
}

}  // namespace mlxcpp

#include "lm_common/kv_cache/cache_list.h"

#include <algorithm>

namespace mlxcpp {

bool CacheList::is_trimmable() const {
  return std::all_of(caches_.begin(), caches_.end(),
                     [](const auto& c) { return c->is_trimmable(); });
}

int CacheList::trim(int n) {
  if (!is_trimmable()) return 0;
  int trimmed = 0;
  for (const auto& c : caches_) trimmed = c->trim(n);
  return trimmed;
}

std::unique_ptr<KVCache> CacheList::copy() const {
  Caches copies;
  for (const auto& c : caches_) copies.push_back(c->copy());
  return std::make_unique<CacheList>(std::move(copies));
}

std::vector<mx::array> CacheList::state() const {
  std::vector<mx::array> all;
  for (const auto& c : caches_)
    for (auto& a : c->state()) all.push_back(std::move(a));
  return all;
}

size_t CacheList::nbytes() const {
  size_t n = 0;
  for (const auto& c : caches_) n += c->nbytes();
  return n;
}

CacheState CacheList::saved() const {
  CacheState s;
  s.kind = "CacheList";
  for (const auto& c : caches_) s.parts.push_back(c->saved());
  return s;
}

}  // namespace mlxcpp

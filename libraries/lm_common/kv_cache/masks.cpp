#include <algorithm>

#include "lm_common/kv_cache.h"
#include "lm_common/kv_cache/cache_state.h"

namespace mlxcpp {

mx::array create_causal_mask(int n, int offset, std::optional<int> window,
                             const std::optional<mx::array>& left_padding) {
  if (n < 0 || offset < 0) throw Error("causal mask: {} queries at {}", n, offset);
  const auto keys = mx::reshape(mx::arange(offset + n), {1, offset + n});
  const auto queries = mx::reshape(mx::arange(offset, offset + n), {n, 1});
  auto seen = mx::greater_equal(queries, keys);
  if (window) seen = mx::logical_and(seen, mx::less(queries, keys + mx::array(*window)));
  if (left_padding)
    seen = mx::logical_and(
        seen, mx::less_equal(mx::expand_dims(*left_padding, std::vector<int>{1, 2, 3}), keys));
  return seen;
}

mx::array KVCache::mask(int L, std::optional<int> window) const {
  return create_causal_mask(L, offset(), window);
}

CacheState KVCache::saved() const { throw Error("this kind of cache cannot be saved"); }

}  // namespace mlxcpp

#include "kernels/attention.h"

#include "core/error.h"

namespace mlxcpp::kernels {
namespace {

// [L, S] bool: which keys each query sees.
mx::array causal_mask(int L, int S, std::optional<int> window) {
  const auto keys = mx::expand_dims(mx::arange(S), 0);
  const auto queries = mx::expand_dims(mx::arange(S - L, S), 1);
  auto seen = mx::less_equal(keys, queries);
  if (window) seen = mx::logical_and(seen, mx::greater(keys, queries - mx::array(*window)));
  return seen;
}

}  // namespace

mx::array attention(const mx::array& q, const mx::array& k, const mx::array& v,
                    const AttentionOptions& o) {
  if (o.softcap != 0.0f) throw Error("attention: softcap is not there yet");
  const int L = q.shape(2), S = k.shape(2);
  auto mask = o.mask;
  if (!mask && o.causal && o.window && S > *o.window) mask = causal_mask(L, S, o.window);
  const bool causal = !mask && o.causal && L > 1;
  return mx::fast::scaled_dot_product_attention(q, k, v, o.scale, causal ? "causal" : "", mask,
                                                o.sinks);
}

}  // namespace mlxcpp::kernels

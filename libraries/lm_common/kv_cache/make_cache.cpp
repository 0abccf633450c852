#include <algorithm>

#include "lm_common/kv_cache/attention_cache.h"

namespace mlxcpp {
namespace {

constexpr int kKeep = 4;  // first tokens that a bounded cache keeps, as mlx-lm's

}  // namespace

std::unique_ptr<KVCache> make_cache(const CacheOptions& options, std::optional<int> window) {
  std::optional<QuantizeFrom> quantize;
  if (options.bits) {
    if (*options.bits != 8 && *options.bits != 4)
      throw Error("KV cache: {} bits are not possible; 8 or 4 are", *options.bits);
    if (options.group_size != 32 && options.group_size != 64 && options.group_size != 128)
      throw Error("KV cache: a group size of {} is not possible; 32, 64 or 128 are",
                  options.group_size);
    quantize = QuantizeFrom{{*options.bits, options.group_size}, options.quantized_start};
  }
  using Kind = KvLayout::Kind;
  KvLayout layout;
  if (window)
    layout = KvLayout(Kind::rotating, std::min(*window, options.max_size.value_or(*window)));
  else if (options.max_size)
    layout = KvLayout(Kind::rotating, *options.max_size, kKeep);
  return std::make_unique<AttentionCache>(layout, quantize);
}

}  // namespace mlxcpp

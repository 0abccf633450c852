// Moving keys and values between buffers: pointers and sizes, for the CPU's KV store.
#pragma once

#include <optional>
#include <vector>

#include <mlx/mlx.h>

#include "kernels/attention_kernel.h"
#include "kernels/kv_store_base.h"

namespace mlxcpp::kernels {

// Keys and values as the kernel sees them, with what it takes to read or write them.
struct KvMemory {
  KvPlane k, v;
  bool quantized = false;
};

KvMemory memory_of(const KvBuffer& buffer);

// Copies tokens; from floats to quantised memory they are quantised as mx::quantize does, to the
// bit. `g` and `q` describe both sides. On the thread pool.
void transfer(const KvGeometry& g, const std::optional<KvQuantization>& q, const KvMemory& from,
              const KvMemory& to, const std::vector<KvCopy>& copies);

// The runs' tokens as floats in g.dtype, to keys [B, Hkv, count, D] and values alike.
void read_floats(const KvGeometry& g, const std::optional<KvQuantization>& q, const KvMemory& main,
                 const KvMemory& tail, const std::vector<KvRun>& runs, std::byte* keys,
                 std::byte* values);

}  // namespace mlxcpp::kernels

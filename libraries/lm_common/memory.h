#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "core/json.h"

namespace mlxcpp {

// Bounds in bytes. MLX keeps freed buffers for reuse up to cache_limit. memory_limit bounds its
// arrays; on some devices MLX itself waits there for memory to be given back before it takes more.
// Weights that are mapped from a file are in neither count.
struct MemoryLimits {
  std::optional<size_t> cache_limit = {};
  std::optional<size_t> memory_limit = {};
};

// Sets what is given, for the process. To be called before other threads compute.
void set_memory_limits(const MemoryLimits& limits);

// Throws when MLX's arrays take more than the memory_limit that was set (MLX does not on a CPU).
// Whatever computes in steps calls it after each: a prompt's part, a token, a batch, a denoising.
void check_memory_limit();

// Sets the default bound of MLX's buffer cache (which has none by itself on some devices), once,
// unless set_memory_limits set one. Every container does this.
void bound_memory_by_default();
// 1/64 of the machine's memory, between 32 MiB and 1 GiB.
size_t default_cache_limit();

// All in bytes. MLX's own count, and the process as the system sees it (0: not known there).
struct MemoryStats {
  size_t active = 0;            // MLX arrays in use
  size_t cache = 0;             // freed buffers kept for reuse
  size_t peak = 0;              // highest `active`
  size_t resident = 0;          // of the process, now
  size_t peak_resident = 0;     // of the process, highest
  std::string summary() const;  // lines for people
};
MemoryStats memory_stats();
size_t peak_resident_memory();  // that of MemoryStats alone

size_t physical_memory();  // of the machine; 0: not known

// What running a model will take, from its config.json alone.
struct MemoryForecast {
  size_t weights = 0;                 // bytes
  size_t kv_per_token = 0;            // bytes of keys and values for one token, all layers
  std::optional<int> context_length;  // positions the model was made for
  size_t kv_full() const {            // with the context full
    return context_length ? kv_per_token * static_cast<size_t>(*context_length) : 0;
  }
};
// weight_bytes: of the files or of a model made from the config. kv_bits: 4 or 8 for a quantised
// cache (16 otherwise: keys and values are kept as they are computed, `kv_element_bytes` wide).
MemoryForecast memory_forecast(const Json& config, size_t weight_bytes, int kv_element_bytes = 2,
                               std::optional<int> kv_bits = {}, int kv_group_size = 64);

}  // namespace mlxcpp

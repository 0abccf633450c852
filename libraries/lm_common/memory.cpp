#include "lm_common/memory.h"

#include <algorithm>
#include <atomic>
#include <fstream>
#include <limits>

#include <mlx/mlx.h>
#include <sys/resource.h>
#include <unistd.h>

#ifdef __APPLE__
#include <mach/mach.h>
#endif

namespace mlxcpp {

namespace mx = mlx::core;

namespace {

constexpr size_t kMiB = size_t{1} << 20;

std::atomic<bool> cache_limit_set = false;
std::atomic<size_t> memory_limit = std::numeric_limits<size_t>::max();

size_t resident_memory() {
#ifdef __APPLE__
  mach_task_basic_info info{};
  mach_msg_type_number_t count = MACH_TASK_BASIC_INFO_COUNT;
  if (task_info(mach_task_self(), MACH_TASK_BASIC_INFO, reinterpret_cast<task_info_t>(&info),
                &count) != KERN_SUCCESS)
    return 0;
  return info.resident_size;
#else
  std::ifstream statm("/proc/self/statm");
  size_t total = 0, resident = 0;
  return statm >> total >> resident ? resident * static_cast<size_t>(sysconf(_SC_PAGESIZE)) : 0;
#endif
}

std::string mib(size_t bytes) {
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / kMiB);
}

}  // namespace

void set_memory_limits(const MemoryLimits& limits) {
  if (limits.memory_limit) {
    memory_limit = *limits.memory_limit;
    mx::set_memory_limit(*limits.memory_limit);
  }
  if (limits.cache_limit) {
    cache_limit_set = true;
    mx::set_cache_limit(*limits.cache_limit);
  }
}

void check_memory_limit() {
  const size_t limit = memory_limit, used = mx::get_active_memory();
  if (used > limit)
    throw Error("MLX's arrays take {}: more than the memory limit of {}", mib(used), mib(limit));
}

void bound_memory_by_default() {
  if (!cache_limit_set.exchange(true)) mx::set_cache_limit(default_cache_limit());
}

size_t default_cache_limit() { return std::clamp(physical_memory() / 64, 32 * kMiB, 1024 * kMiB); }

size_t physical_memory() {
  const long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
  return pages > 0 && size > 0 ? static_cast<size_t>(pages) * static_cast<size_t>(size) : 0;
}

std::string MemoryStats::summary() const {
  return fmt::format("MLX arrays {}, highest {}; freed buffers kept {}\nprocess {}, highest {}",
                     mib(active), mib(peak), mib(cache), mib(resident), mib(peak_resident));
}

size_t peak_resident_memory() {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
#ifdef __APPLE__
  return static_cast<size_t>(usage.ru_maxrss);  // bytes there, kilobytes elsewhere
#else
  return static_cast<size_t>(usage.ru_maxrss) * 1024;
#endif
}

MemoryStats memory_stats() {
  const size_t resident = resident_memory();
  return {.active = mx::get_active_memory(),
          .cache = mx::get_cache_memory(),
          .peak = mx::get_peak_memory(),
          .resident = resident,
          // The kernel's own highest lags behind a little.
          .peak_resident = std::max(resident, peak_resident_memory())};
}

MemoryForecast memory_forecast(const Json& config, size_t weight_bytes, int kv_element_bytes,
                               std::optional<int> kv_bits, int kv_group_size) {
  MemoryForecast forecast{.weights = weight_bytes, .kv_per_token = 0, .context_length = {}};
  if (!config.is_object()) return forecast;
  const auto text = config.find("text_config");
  const Json& c = text != config.end() && text->is_object() ? *text : config;
  ConfigReader reader(c, "config.json");
  reader.maybe("max_position_embeddings", forecast.context_length);

  std::optional<int> layers, hidden, heads, kv_heads, head_dim;
  reader.maybe("num_hidden_layers", layers);
  reader.maybe("hidden_size", hidden);
  reader.maybe("num_attention_heads", heads);
  reader.maybe("num_key_value_heads", kv_heads);
  reader.maybe("head_dim", head_dim);
  if (!kv_heads) kv_heads = heads;
  if (!head_dim && hidden && heads && *heads > 0) head_dim = *hidden / *heads;
  if (!layers || !kv_heads || !head_dim) return forecast;
  for (const int n : {*layers, *kv_heads, *head_dim})
    if (n < 0) return forecast;
  // A quantised group has a scale and a bias beside its codes.
  const double bytes_per_element =
      kv_bits ? *kv_bits / 8.0 + 2.0 * kv_element_bytes / kv_group_size : kv_element_bytes;
  forecast.kv_per_token =
      static_cast<size_t>(2.0 * *layers * *kv_heads * *head_dim * bytes_per_element);
  return forecast;
}

}  // namespace mlxcpp

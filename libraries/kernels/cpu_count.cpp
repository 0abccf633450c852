#include "kernels/cpu_count.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

namespace mlxcpp::kernels {
namespace {

namespace fs = std::filesystem;

using Limit = std::optional<double>;

Limit tighter(Limit a, Limit b) {
  if (!a || !b) return a ? a : b;
  return std::min(*a, *b);
}

Limit ratio(double quota, double period) {
  if (quota > 0 && period > 0) return quota / period;
  return std::nullopt;  // -1 stands for no limit
}

// Version 2: "max 100000" or "150000 100000".
Limit read_v2(const fs::path& group) {
  std::ifstream in(group / "cpu.max");
  double quota = 0, period = 0;
  if (in >> quota >> period) return ratio(quota, period);
  return std::nullopt;
}

Limit read_v1(const fs::path& group) {
  std::ifstream quota_file(group / "cpu.cfs_quota_us"), period_file(group / "cpu.cfs_period_us");
  double quota = 0, period = 0;
  if (quota_file >> quota && period_file >> period) return ratio(quota, period);
  return std::nullopt;
}

// A limit binds all groups below it. A container may see its own group as the root of the mount,
// and a path that does not exist there.
Limit tightest_upwards(const fs::path& mount, fs::path group, Limit (*read)(const fs::path&)) {
  Limit limit;
  for (group = group.relative_path(); !group.empty(); group = group.parent_path())
    limit = tighter(limit, read(mount / group));
  return tighter(limit, read(mount));
}

int affinity_cpus() {
#if defined(__linux__)
  for (size_t cpus = 1024; cpus <= (1 << 16); cpus *= 4) {  // the kernel refuses too small a set
    std::vector<cpu_set_t> set(cpus / CPU_SETSIZE);
    const size_t bytes = set.size() * sizeof(cpu_set_t);
    if (sched_getaffinity(0, bytes, set.data()) == 0) return CPU_COUNT_S(bytes, set.data());
  }
#endif
  return static_cast<int>(std::thread::hardware_concurrency());
}

}  // namespace

std::optional<double> cgroup_cpu_limit(const fs::path& membership, const fs::path& mount) {
  // Lines are "number:controllers:path"; version 2 has no controllers.
  std::ifstream in(membership);
  Limit limit;
  for (std::string line; std::getline(in, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const fs::path group = line.substr(second + 1);
    if (controllers.empty()) {
      limit = tighter(limit, tightest_upwards(mount, group, read_v2));
      limit = tighter(limit, tightest_upwards(mount / "unified", group, read_v2));
    } else if (("," + controllers + ",").find(",cpu,") != std::string::npos) {
      limit = tighter(limit, tightest_upwards(mount / controllers, group, read_v1));
      limit = tighter(limit, tightest_upwards(mount / "cpu", group, read_v1));
    }
  }
  return limit;
}

int available_cpus() {
  int cpus = std::max(1, affinity_cpus());
  if (const auto limit = cgroup_cpu_limit("/proc/self/cgroup", "/sys/fs/cgroup"))
    if (*limit < cpus) cpus = std::max(1, static_cast<int>(std::ceil(*limit)));
  return cpus;
}

}  // namespace mlxcpp::kernels

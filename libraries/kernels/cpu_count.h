#pragma once

#include <filesystem>
#include <optional>

namespace mlxcpp::kernels {

// The number of CPUs that this process may use: those of its affinity mask, bounded by the CPU
// limits of its control groups (a container's --cpus), rounded up. At least 1.
int available_cpus();

// The tightest CPU limit of the control groups (version 2 or 1) that `membership` (the form of
// /proc/self/cgroup) names, and of their parents, below `mount` (/sys/fs/cgroup). In CPUs.
std::optional<double> cgroup_cpu_limit(const std::filesystem::path& membership,
                                       const std::filesystem::path& mount);

}  // namespace mlxcpp::kernels

#pragma once

#include <filesystem>
#include <optional>
#include <string_view>

namespace ropewalk {

/// CPUs that the cgroup quota allows, rounded up; nullopt without a quota. `membership` is the text of
/// /proc/self/cgroup, `mount` is /sys/fs/cgroup.
/// v2 reads cpu.max, v1 cpu.cfs_quota_us over cpu.cfs_period_us, in the process's group and each one above it: the
/// smallest counts. Inside a container the path is often not visible; then what is left of it after dropping leading
/// folders is tried, at last the mount's own root.
std::optional<int> cgroup_cpus(std::string_view membership, const std::filesystem::path& mount);

}  // namespace ropewalk

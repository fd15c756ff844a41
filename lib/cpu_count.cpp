#include "lib/cpu_count.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "lib/executor.h"

namespace ropewalk {
namespace fs = std::filesystem;
namespace {

std::string text_of(const fs::path& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// Quota of one group in CPUs; nullopt if it sets none or is not there.
std::optional<double> group_quota(const fs::path& group, bool v2) {
  double quota = -1, period = 0;
  if (v2) {
    std::istringstream(text_of(group / "cpu.max")) >> quota >> period;  // "max 100000" fails to read: no quota
  } else {
    std::istringstream(text_of(group / "cpu.cfs_quota_us")) >> quota;
    std::istringstream(text_of(group / "cpu.cfs_period_us")) >> period;
  }
  if (!(quota > 0) || !(period > 0)) return std::nullopt;
  return quota / period;
}

/// The smallest quota of `path` below `root` and of every group above it, down to root itself.
std::optional<double> smallest_quota(const fs::path& root, fs::path path, bool v2) {
  std::optional<double> smallest;
  for (;; path = path.parent_path()) {
    if (const auto quota = group_quota(root / path, v2)) smallest = std::min(smallest.value_or(*quota), *quota);
    if (path.empty()) return smallest;
  }
}

/// The part of `path` that exists below root: all of it, or without leading folders (a container sees only its own
/// part).
fs::path visible_part(const fs::path& root, fs::path path) {
  std::error_code ignored;
  while (!path.empty() && !fs::is_directory(root / path, ignored)) {
    fs::path shorter;
    for (auto part = std::next(path.begin()); part != path.end(); ++part) shorter /= *part;
    path = shorter;
  }
  return path;
}

int affinity_cpus() {
  for (int cpus = 1024; cpus <= 1 << 20; cpus *= 4) {  // the kernel refuses a mask smaller than its own
    cpu_set_t* set = CPU_ALLOC(cpus);
    const std::size_t bytes = CPU_ALLOC_SIZE(cpus);
    const int n = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (n > 0) return n;
  }
  return 1;
}

}  // namespace

std::optional<int> cgroup_cpus(std::string_view membership, const fs::path& mount) {
  std::optional<double> smallest;
  std::istringstream lines{std::string(membership)};
  for (std::string line; std::getline(lines, line);) {  // "0::/path" is v2, "4:cpu,cpuacct:/path" v1
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (first == line.npos || second == line.npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool v2 = controllers.empty();
    if (!v2 && ("," + controllers + ",").find(",cpu,") == std::string::npos) continue;
    const fs::path path = fs::path(line.substr(second + 1)).relative_path();
    for (const fs::path& root :
         v2 ? std::vector{mount, mount / "unified"} : std::vector{mount / controllers, mount / "cpu"})
      if (const auto quota = smallest_quota(root, visible_part(root, path), v2))
        smallest = std::min(smallest.value_or(*quota), *quota);
  }
  if (!smallest) return std::nullopt;
  return static_cast<int>(std::clamp(std::ceil(*smallest), 1.0, 1e6));
}

int available_threads() {
  const int affinity = affinity_cpus();
  return std::max(1,
                  std::min(affinity, cgroup_cpus(text_of("/proc/self/cgroup"), "/sys/fs/cgroup").value_or(affinity)));
}

}  // namespace ropewalk

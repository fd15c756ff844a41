#pragma once

#include <grp.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace ropewalk::test {

constexpr uid_t kNobody = 65534;

/// Makes this process, a forked child, a user without rights: root may read and write everything, so permissions would
/// go untested where tests run as root, as in CI.
/// Nothing to do for anybody else. False if it cannot be done.
inline bool drop_root() {
  return geteuid() != 0 || (setgroups(0, nullptr) == 0 && setgid(kNobody) == 0 && setuid(kNobody) == 0);
}

/// Gives `path` and all in it to the user that drop_root() makes.
inline void hand_over(const std::filesystem::path& path) {
  if (geteuid() != 0) return;
  bool done = lchown(path.c_str(), kNobody, kNobody) == 0;
  if (std::filesystem::is_directory(path))
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path))
      done = lchown(entry.path().c_str(), kNobody, kNobody) == 0 && done;
  if (!done) std::abort();
}

}  // namespace ropewalk::test

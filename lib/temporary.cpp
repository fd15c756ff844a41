#include "lib/temporary.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <system_error>
#include <utility>

#include "lib/error.h"
#include "lib/pending_file.h"

namespace ropewalk {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kMark = ".ropewalk-";
constexpr std::size_t kNameBytes = 200;  // of the target's name; with mark, process and number it stays below NAME_MAX
constexpr int kTries = 10'000;
constexpr int kDeepest = 16;
constexpr int kPasses = 100;
constexpr int kPublicationMs = 10'000;  // a few renames and removals; longer only where the disk hangs

// What a signal handler may look at: fixed, never freed, no lock. A slot is filled while `filling` and read only while
// `armed`.
enum SlotState : int { kFree, kFilling, kArmed };
struct Slot {
  std::atomic<int> state{kFree};
  pid_t owner = 0;  // a forked child must not remove its parent's
  std::array<char, 4096> path{};
};
std::atomic<int> publications = 0;  // Publishing objects that live
std::atomic<bool> leaving = false;  // a signal ends the run: what is pending goes, nothing is published any more
std::array<Slot, 64> slots;         // more temporaries than slots: the rest are left to the next run's reaping
static_assert(std::atomic<int>::is_always_lock_free);

int arm(const fs::path& path) noexcept {
  const std::string& text = path.native();
  if (text.size() >= std::tuple_size_v<decltype(Slot::path)>) return -1;
  for (std::size_t i = 0; i < slots.size(); ++i) {
    int expected = kFree;
    if (!slots[i].state.compare_exchange_strong(expected, kFilling)) continue;
    slots[i].owner = ::getpid();
    std::memcpy(slots[i].path.data(), text.c_str(), text.size() + 1);
    slots[i].state.store(kArmed);
    return static_cast<int>(i);
  }
  return -1;
}

std::string temporary_name(const fs::path& target, int number) {
  std::array<char, 48> tail;
  std::snprintf(tail.data(), tail.size(), "%s%ld-%06d", kMark.data(), static_cast<long>(::getpid()), number);
  return "." + target.filename().native().substr(0, kNameBytes) + tail.data();
}

bool digits(std::string_view text) {
  for (const char c : text)
    if (c < '0' || c > '9') return false;
  return !text.empty();
}

/// ".NAME.ropewalk-PID-NNNNNN"
bool is_temporary_name(std::string_view name) {
  const auto mark = name.rfind(kMark);
  if (!name.starts_with('.') || mark == name.npos || mark < 2) return false;
  const std::string_view tail = name.substr(mark + kMark.size());
  const auto dash = tail.find('-');
  return dash != tail.npos && digits(tail.substr(0, dash)) && digits(tail.substr(dash + 1));
}

/// True if `fd` is locked by us and still what `path` names: a reaper may have been quicker than our lock.
bool lock_and_confirm(int fd, const fs::path& path) {
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) return errno != EWOULDBLOCK;  // no locks here: nobody reaps here either
  struct stat ours = {}, there = {};
  return ::fstat(fd, &ours) == 0 && ::lstat(path.c_str(), &there) == 0 && ours.st_ino == there.st_ino &&
         ours.st_dev == there.st_dev;
}

struct linux_dirent64 {  // getdents64(2): not in any header
  std::uint64_t d_ino;
  std::int64_t d_off;
  unsigned short d_reclen;
  unsigned char d_type;
  char d_name[1];
};

bool remove_contents(int folder, int depth) noexcept {
  if (depth > kDeepest) return false;
  // Removing while reading may skip entries: read again until a pass removes nothing.
  for (bool removed = true; removed;) {
    removed = false;
    if (::lseek(folder, 0, SEEK_SET) < 0) return false;
    alignas(linux_dirent64) char buffer[2048];
    for (long n; (n = ::syscall(SYS_getdents64, folder, buffer, sizeof buffer)) > 0;) {
      for (long at = 0; at < n;) {
        const auto* entry = reinterpret_cast<const linux_dirent64*>(buffer + at);
        const char* name = buffer + at + offsetof(linux_dirent64, d_name);
        at += entry->d_reclen;
        if (std::strcmp(name, ".") == 0 || std::strcmp(name, "..") == 0) continue;
        if (::unlinkat(folder, name, 0) == 0) {
          removed = true;
          continue;
        }
        const int inner = ::openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (inner < 0) continue;
        remove_contents(inner, depth + 1);
        ::close(inner);
        if (::unlinkat(folder, name, AT_REMOVEDIR) == 0) removed = true;
      }
    }
  }
  return true;
}

}  // namespace

SignalsHeld::SignalsHeld() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before_);
}
SignalsHeld::~SignalsHeld() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

// One of the two sees the other: this count before `leaving`, the handler `leaving` before the count.
Publishing::Publishing() {
  publications.fetch_add(1);
  if (!leaving) return;
  publications.fetch_sub(1);
  for (;;) ::pause();  // until the handler's thread has ended the run
}
Publishing::~Publishing() { publications.fetch_sub(1); }

bool remove_tree(const char* path) noexcept {
  if (::unlink(path) == 0 || errno == ENOENT) return true;
  const int folder = ::open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (folder < 0) return false;
  bool gone = false;
  // another thread may still be putting files there when a signal ends the run
  for (int pass = 0; !gone && pass < kPasses; ++pass) {
    if (!remove_contents(folder, 0)) break;
    gone = ::rmdir(path) == 0;
  }
  ::close(folder);
  return gone;
}

void remove_pending_on_signal() noexcept {
  const int saved = errno;
  leaving = true;
  // on another thread: the publishing one holds signals back
  for (int ms = 0; publications.load() > 0 && ms < kPublicationMs; ++ms) {
    const timespec pause{0, 1'000'000};
    ::nanosleep(&pause, nullptr);
  }
  // A publication that hangs may yet exchange a temporary with its target: then both are left to the next run's reaping.
  for (Slot& slot : slots)
    if (publications.load() == 0 && slot.state.load() == kArmed && slot.owner == ::getpid())
      remove_tree(slot.path.data());
  errno = saved;
}

Temporary::Temporary(fs::path path, int fd) : path_(std::move(path)), fd_(fd), slot_(arm(path_)) {}

Temporary::Temporary(Temporary&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), slot_(std::exchange(other.slot_, -1)) {
  other.path_.clear();
}

Temporary::~Temporary() {
  if (!path_.empty()) remove_tree(path_.c_str());
  release();
  if (fd_ >= 0) ::close(fd_);
}

void Temporary::release() noexcept {
  path_.clear();
  if (slot_ >= 0) slots[static_cast<std::size_t>(std::exchange(slot_, -1))].state.store(kFree);
}

Temporary Temporary::create(const fs::path& target, const std::string& name, Kind kind) {
  const SignalsHeld held;
  for (int number = 0; number < kTries; ++number) {
    const fs::path path = target.parent_path() / temporary_name(target, number);
    int fd = -1;
    if (kind == Kind::file) {
      fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } else if (::mkdir(path.c_str(), 0777) == 0) {
      fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
      if (fd < 0 && errno == ENOENT) continue;  // another run's reaping was quicker than our lock
    }
    if (fd < 0) {
      if (errno == EEXIST || errno == EINTR) continue;
      throw_output_error(name, kind == Kind::file ? "create the file" : "create the folder", errno);
    }
    if (lock_and_confirm(fd, path)) return Temporary(path, fd);
    ::close(fd);
  }
  throw_output_error(name, "find a free temporary name", EEXIST);
}

Temporary Temporary::link(const fs::path& target, const std::string& name, int fd) {
  const std::string source = "/proc/self/fd/" + std::to_string(fd);
  const SignalsHeld held;
  for (int number = 0; number < kTries; ++number) {
    fs::path path = target.parent_path() / temporary_name(target, number);
    if (::linkat(AT_FDCWD, source.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) == 0)
      return Temporary(std::move(path), -1);
    if (errno != EEXIST && errno != EINTR) throw_output_error(name, "name the file", errno);
  }
  throw_output_error(name, "find a free temporary name", EEXIST);
}

fs::path checked_target(const fs::path& target) {
  if (target.empty()) throw Error(ErrorKind::io, {}, "the output's name is empty", "give a name");
  std::error_code ignored;
  fs::path whole = fs::absolute(target, ignored);
  while (!whole.has_filename() && whole.has_relative_path()) whole = whole.parent_path();  // "out/"
  if (whole.filename() == "." || whole.filename() == "..") whole = fs::canonical(whole, ignored);
  const fs::path folder = whole.parent_path();
  struct stat status {};
  if (::stat(folder.c_str(), &status) != 0 && errno != ENOENT && errno != ENOTDIR)
    throw_output_error(target.native(), "look into its folder", errno);
  if (!S_ISDIR(status.st_mode))
    throw Error(ErrorKind::io, {.path = target.native()}, "its folder '" + folder.native() + "' does not exist",
                "create it first");
  return whole;
}

void throw_exists(const std::string& target) {
  throw Error(ErrorKind::io, {.path = target}, "exists already",
              "use --overwrite to replace it, or choose another name");
}

void throw_output_error(const std::string& path, const std::string& operation, int error_number) {
  if (error_number == ENOENT || error_number == ENOTDIR)  // for an input this would be bad input
    throw Error(ErrorKind::io, {.path = path}, "cannot " + operation + ": there is no such folder",
                "create it first, or check the path");
  throw_system_error(path, operation, error_number, ErrorKind::io);
}

void reap_temporaries(const fs::path& folder) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (!is_temporary_name(entry->path().filename().native())) continue;
    const int fd = ::open(entry->path().c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) continue;
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) remove_tree(entry->path().c_str());
    ::close(fd);
  }
}

void sync_folder(const fs::path& folder, int inside) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0 && errno != EACCES) throw_output_error(folder.native(), "open", errno);
  const int failure = (fd < 0 ? ::syncfs(inside) : ::fsync(fd)) == 0 ? 0 : errno;
  if (fd >= 0) ::close(fd);
  if (failure != 0 && failure != EINVAL)
    throw_output_error(folder.native(), "sync", failure);  // EINVAL: this file system has nothing to sync
}

bool rename_with_flags(const fs::path& from, const fs::path& to, unsigned flags) noexcept {
  return ::syscall(SYS_renameat2, AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags) == 0;
}

}  // namespace ropewalk

#pragma once

#include <csignal>
#include <filesystem>
#include <string>

namespace ropewalk {

// Named temporaries: ".NAME.ropewalk-PID-NNNNNN" beside the target they will become. Whoever owns one holds an flock on
// it, so a temporary that can be locked belongs to a process that died, in whatever container or PID namespace it ran.
// On a file system without locks nothing is reaped.

/// An entry of the file system under a temporary name, locked and listed for remove_pending_on_signal(). Removed on
/// destruction unless released.
class Temporary {
 public:
  enum class Kind { file, folder };
  /// Creates it. Error(io), which calls the target `name`, if the folder is not writable or full.
  static Temporary create(const std::filesystem::path& target, const std::string& name, Kind kind);
  /// Gives the open file `fd` (made by O_TMPFILE) a temporary name; fd stays the caller's and carries the lock.
  static Temporary link(const std::filesystem::path& target, const std::string& name, int fd);
  Temporary(Temporary&& other) noexcept;
  ~Temporary();
  Temporary& operator=(Temporary&&) = delete;

  const std::filesystem::path& path() const noexcept { return path_; }
  /// Open for writing (file) or as a folder; closed on destruction. -1 after link().
  int descriptor() const noexcept { return fd_; }
  /// It no longer has this name.
  void release() noexcept;

 private:
  Temporary(std::filesystem::path path, int fd);
  std::filesystem::path path_;
  int fd_;
  int slot_;
};

/// Holds signals back on this thread: one that came between an entry's creation and its listing for the handler would
/// leave the entry behind.
class SignalsHeld {
 public:
  SignalsHeld();
  ~SignalsHeld();
  SignalsHeld(const SignalsHeld&) = delete;
  SignalsHeld& operator=(const SignalsHeld&) = delete;

 private:
  sigset_t before_;
};

/// While one lives, remove_pending_on_signal() on any thread waits: several names are being given and belong together.
/// Once that has begun to remove, none comes to life any more: the constructor waits for the end of the process.
class Publishing {
 public:
  Publishing();
  ~Publishing();
  Publishing(const Publishing&) = delete;
  Publishing& operator=(const Publishing&) = delete;

 private:
  SignalsHeld held_;  // this thread's own handler would wait for itself
};

/// The absolute target without trailing slash; Error(io) if its folder is missing. `what`: "file" or "folder", for the
/// message.
std::filesystem::path checked_target(const std::filesystem::path& target);
/// Error(io): the target exists and was not to be overwritten.
[[noreturn]] void throw_exists(const std::string& target);
/// Error(io) for a failed system call on an output, whatever the number.
[[noreturn]] void throw_output_error(const std::string& path, const std::string& operation, int error_number);
/// Removes temporaries in `folder` whose owners died.
void reap_temporaries(const std::filesystem::path& folder);
/// The entries of `folder` are on the disk afterwards. Error(io). `inside`: a descriptor of something in it, by which the
/// whole file system is synced where the folder may be written but not read.
void sync_folder(const std::filesystem::path& folder, int inside);
/// Removes a file or a folder and all in it (links are removed, not followed); async-signal-safe, allocates nothing.
/// False if something is left.
bool remove_tree(const char* path) noexcept;
/// renameat2; false with errno set if it failed.
bool rename_with_flags(const std::filesystem::path& from, const std::filesystem::path& to, unsigned flags) noexcept;

}  // namespace ropewalk

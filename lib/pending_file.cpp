#include "lib/pending_file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <optional>
#include <map>
#include <vector>

#include "lib/error.h"
#include "lib/pending_folder_state.h"
#include "lib/plural.h"
#include "lib/temporary.h"

namespace ropewalk {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kLargestWrite = std::size_t{1} << 30;

/// What stands under the target's name: nothing, or a file that may be replaced (its mode is returned). Anything else
/// throws.
std::optional<mode_t> check_target(const fs::path& target, const std::string& name, bool overwrite) {
  struct stat status {};
  if (::lstat(target.c_str(), &status) != 0) {
    if (errno == ENOENT) return std::nullopt;
    throw_output_error(name, "look at the target", errno);
  }
  if (S_ISDIR(status.st_mode))
    throw Error(ErrorKind::io, {.path = name}, "is a folder, a file is to be written", "give the name of a file in it");
  if (!overwrite) throw_exists(name);
  if (!S_ISREG(status.st_mode) && !S_ISLNK(status.st_mode))
    throw Error(ErrorKind::io, {.path = name}, "is a device or pipe, expected a regular file or nothing",
                "choose another name");
  if (S_ISREG(status.st_mode) &&
      ::faccessat(AT_FDCWD, target.c_str(), W_OK, AT_EACCESS) != 0)  // rename would not ask: the file's owner did
    throw_output_error(name, "replace the read-only file", errno);
  return S_ISREG(status.st_mode) ? std::optional(status.st_mode & 0777) : std::nullopt;
}

/// -1 where the file system has no unnamed files, or no /proc to name them by later.
int open_unnamed(const fs::path& folder) {
  const int fd = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
  if (fd < 0) return -1;
  if (::access(("/proc/self/fd/" + std::to_string(fd)).c_str(), F_OK) == 0) {
    // Held from now on: with --overwrite the file passes through a temporary name. A failure means that nobody reaps
    // there.
    (void)::flock(fd, LOCK_EX | LOCK_NB);
    return fd;
  }
  ::close(fd);
  return -1;
}

std::uint64_t free_bytes(int fd) {
  struct statvfs status {};
  if (::fstatvfs(fd, &status) != 0 || status.f_blocks == 0) return UINT64_MAX;
  return std::uint64_t{status.f_bavail} * status.f_frsize;
}

void reserve(int fd, const std::string& name, std::uint64_t size_bytes) {
  if (size_bytes == 0) return;
  int failure = 0;
  do {
    failure = ::fallocate(fd, 0, 0, static_cast<off_t>(size_bytes)) == 0 ? 0 : errno;
  } while (failure == EINTR);
  const std::uint64_t free = failure == 0 ? 0 : free_bytes(fd);
  if (failure == EOPNOTSUPP || failure == ENOSYS) {
    failure = free < size_bytes ? ENOSPC : 0;
    if (failure == 0 && ::ftruncate(fd, static_cast<off_t>(size_bytes)) != 0) failure = errno;
  }
  const std::string of = failure == ENOSPC && free != UINT64_MAX ? " (" + std::to_string(free) + " are free)" : "";
  if (failure != 0) throw_output_error(name, "reserve " + plural(size_bytes, "byte") + of, failure);
}

/// "'a', 'b'"
void add_quoted(std::string& names, const std::string& name) { names += (names.empty() ? "'" : ", '") + name + "'"; }

/// What has its name already, should a later output not get its own.
struct Published {
  std::vector<fs::path> created;  // these may go again; what a file replaced cannot come back:
  std::string kept;               // the names of those
};

}  // namespace

struct PendingFile::State {
  std::string name;  // as given, for messages
  fs::path target;   // absolute
  std::uint64_t size_bytes;
  WriteOptions options;
  int unnamed = -1;                // the O_TMPFILE descriptor, or
  std::optional<Temporary> named;  // the temporary

  int descriptor() const { return unnamed >= 0 ? unnamed : named->descriptor(); }
  ~State() {
    named.reset();
    if (unnamed >= 0) ::close(unnamed);
  }

  void flush() const;
  bool replaces() const;
  void publish(Published& done);
  Temporary set_aside() const;
  static void publish_split(const std::vector<PendingFile*>& shards, Published& done);
  void take_name();
  void take_free_name();
};

void check_file_target(const fs::path& target, bool overwrite) {
  (void)check_target(checked_target(target), target.native(), overwrite);
}

PendingFile::PendingFile(fs::path target, std::uint64_t size_bytes, const WriteOptions& options)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.name = options.called.empty() ? target.native() : options.called.native();
  s.target = checked_target(target);
  s.size_bytes = size_bytes;
  s.options = options;
  const auto old_mode = check_target(s.target, s.name, options.overwrite);
  reap_temporaries(s.target.parent_path());
  if (!options.named) s.unnamed = open_unnamed(s.target.parent_path());
  if (s.unnamed < 0) s.named.emplace(Temporary::create(s.target, s.name, Temporary::Kind::file));
  if (old_mode) (void)::fchmod(s.descriptor(), *old_mode);  // a private file stays private; not every file system can
  reserve(s.descriptor(), s.name, size_bytes);
}

PendingFile::~PendingFile() = default;

const std::string& PendingFile::path() const noexcept { return state_->name; }

void PendingFile::write(std::uint64_t offset_bytes, std::span<const std::byte> bytes) {
  assert(offset_bytes <= state_->size_bytes && bytes.size() <= state_->size_bytes - offset_bytes);
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(state_->descriptor(), bytes.data(), std::min(bytes.size(), kLargestWrite),
                               static_cast<off_t>(offset_bytes));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) throw_output_error(state_->name, "write at byte " + std::to_string(offset_bytes), n < 0 ? errno : EIO);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    offset_bytes += static_cast<std::uint64_t>(n);
  }
}

void PendingFile::State::flush() const {
  if (options.sync && ::fsync(descriptor()) != 0) throw_output_error(name, "sync", errno);
  // Network file systems report late write errors at close. Closing a copy asks for them while the file can still be
  // dropped.
  const int copy = ::fcntl(descriptor(), F_DUPFD_CLOEXEC, 0);
  if (copy < 0) throw_output_error(name, "finish", errno);
  if (::close(copy) != 0 && errno != EINTR) throw_output_error(name, "finish", errno);
}

void PendingFile::State::take_free_name() {
  // Atomic even against another writer of the same name: the second one fails.
  if (!named) {
    if (::linkat(AT_FDCWD, ("/proc/self/fd/" + std::to_string(unnamed)).c_str(), AT_FDCWD, target.c_str(),
                 AT_SYMLINK_FOLLOW) == 0)
      return;
  } else if (rename_with_flags(named->path(), target, RENAME_NOREPLACE)) {
    named->release();
    return;
  } else if ((errno == EINVAL || errno == ENOSYS) && ::link(named->path().c_str(), target.c_str()) == 0) {
    return;  // the temporary's name goes with its owner
  }
  if (errno == EEXIST) throw_exists(name);
  throw_output_error(name, "give the file its name", errno);
}

void PendingFile::State::take_name() {
  if (!options.overwrite) return take_free_name();
  (void)check_target(target, name, true);                             // a folder may have appeared
  if (!named) named.emplace(Temporary::link(target, name, unnamed));  // linkat cannot replace, rename can
  if (::rename(named->path().c_str(), target.c_str()) != 0) throw_output_error(name, "replace the file", errno);
  named->release();
}

void PendingFile::finish() { finish_together({.files = {this}, .folders = {}, .replaced = {}}); }

void write_file(const fs::path& target, std::string_view text, const WriteOptions& options) {
  PendingFile file(target, text.size(), options);
  file.write(0, std::as_bytes(std::span(text)));
  file.finish();
}

bool PendingFile::State::replaces() const {
  std::error_code ignored;
  return options.overwrite && fs::exists(fs::symlink_status(target, ignored));
}

void PendingFile::State::publish(Published& done) {
  const bool old = replaces();
  take_name();
  if (old) add_quoted(done.kept, name);
  else done.created.push_back(target);
}

/// For a file that replaces one. The old one has a temporary name afterwards: gone with its owner, or reaped after a crash.
Temporary PendingFile::State::set_aside() const {
  (void)check_target(target, name, true);
  Temporary away = Temporary::create(target, name, Temporary::Kind::file);
  if (::rename(target.c_str(), away.path().c_str()) != 0) throw_output_error(name, "move the old file away", errno);
  if (options.sync) sync_folder(target.parent_path(), away.descriptor());  // before any new shard is on the disk
  return away;
}

void PendingFile::State::publish_split(const std::vector<PendingFile*>& shards, Published& done) {
  State& first = *shards.front()->state_;
  std::optional<Temporary> old;
  if (first.replaces()) old.emplace(first.set_aside());
  const std::size_t kept_before = done.kept.size();
  try {
    for (std::size_t shard = 1; shard < shards.size(); ++shard) shards[shard]->state_->publish(done);
    if (old && first.options.sync) sync_folder(first.target.parent_path(), first.descriptor());
    first.publish(done);
  } catch (const Error&) {
    // beside a new shard the old first one stays away: what is left must not read as a model
    if (old && done.kept.size() == kept_before) {
      if (::rename(old->path().c_str(), first.target.c_str()) == 0) old->release();
    } else if (old) {
      done.kept += ", and so the old '" + first.name + "' is removed";
    }
    throw;
  }
  if (!old) return;
  done.created.pop_back();  // should a later output fail: it has replaced a file as the others have
  add_quoted(done.kept, first.name);
}

void finish_together(const PendingSet& set) {
  std::vector<const PendingFile*> files(set.files.begin(), set.files.end());
  for (const auto& split : set.splits) files.insert(files.end(), split.begin(), split.end());
  for (const PendingFile* file : files) file->state_->flush();
  for (const PendingFolder* folder : set.folders) folder->state_->flush();
  const Publishing publishing;
  std::vector<PendingFolder*> published;  // these may go again
  Published done;
  try {
    for (PendingFolder* folder : set.folders) {
      folder->state_->publish();
      published.push_back(folder);
    }
    for (PendingFile* file : set.files) file->state_->publish(done);
    for (const auto& split : set.splits) PendingFile::State::publish_split(split, done);
  } catch (const Error& error) {
    for (const fs::path& path : done.created) (void)::unlink(path.c_str());
    for (PendingFolder* folder : published) folder->state_->take_back();
    if (done.kept.empty()) throw;
    throw Error(error.kind(), error.where(),
                error.problem() + " (complete and in place of the old: " + done.kept + "; nothing else was written)",
                error.fix());
  }
  std::map<fs::path, int> parents;  // with a descriptor of something in them
  for (const PendingFile* file : files)
    if (file->state_->options.sync) parents.emplace(file->state_->target.parent_path(), file->state_->descriptor());
  for (const PendingFolder* folder : set.folders)
    if (folder->state_->options.sync)
      parents.emplace(folder->state_->target.parent_path(), folder->state_->building->descriptor());
  // the new names are on the disk before the old files go
  try {
    for (const auto& [folder, inside] : parents) sync_folder(folder, inside);
  } catch (const Error& error) {
    std::string kept_folders;
    for (PendingFolder* folder : published)
      if (const fs::path old = folder->state_->keep_old(); !old.empty()) add_quoted(kept_folders, old.native());
    if (kept_folders.empty()) throw;
    throw Error(error.kind(), error.where(),
                error.problem() +
                    " (what is new has its name and may not be on the disk; the old is kept: " + kept_folders + ")",
                error.fix());
  }
  for (PendingFolder* folder : published) folder->state_->settle();
  for (const fs::path& path : set.replaced)
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) throw_output_error(path.native(), "remove the old file", errno);
}

}  // namespace ropewalk

#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ropewalk {

struct PendingSet;

struct WriteOptions {
  bool overwrite = false;  // replace an existing target
  bool sync = true;        // fsync the file before it takes the target's name, the folder after
  bool named = false;      // neither O_TMPFILE nor an exchange of folders: the way of file systems that lack it (tests)
  // what messages call the file where that is not the target: a file of a folder that is being built
  std::filesystem::path called = {};
};

/// Error(io) for a target that a PendingFile or PendingFolder would refuse: so that a caller can say so before any work.
void check_file_target(const std::filesystem::path& target, bool overwrite);
void check_folder_target(const std::filesystem::path& target, bool overwrite);

/// A file that becomes `target` only when finished: an interrupted run leaves the old file or the new one.
/// O_TMPFILE + linkat where the file system has them, else a named temporary (lib/temporary.h) in the target's folder,
/// removed on signals and reaped by the next run that writes there. Safe to write from any number of threads at
/// disjoint offsets.
class PendingFile {
 public:
  /// Creates the temporary and reserves size_bytes (fallocate). Error(io) if the target exists without `overwrite`, the
  /// folder is missing, not writable, the target is read-only, or the space is not there. With `overwrite` the new file
  /// keeps the old one's permissions; a link is replaced, not what it points to.
  PendingFile(std::filesystem::path target, std::uint64_t size_bytes, const WriteOptions& options);
  ~PendingFile();  // removes the temporary unless finished
  PendingFile(const PendingFile&) = delete;
  PendingFile& operator=(const PendingFile&) = delete;

  const std::string& path() const noexcept;  // the target's, for messages
  /// Inside the size given. Error(io) if the disk refuses.
  void write(std::uint64_t offset_bytes, std::span<const std::byte> bytes);
  /// Syncs and gives the file its name: after it the target is whole and durable. Without `overwrite` it fails if the
  /// target exists by now, atomically:
  /// of two runs that write one name, one wins. Once, after all writes.
  void finish();

 private:
  friend void finish_together(const PendingSet& set);
  struct State;
  std::unique_ptr<State> state_;
};

/// The whole of a file as one step: a PendingFile of this text.
void write_file(const std::filesystem::path& target, std::string_view text, const WriteOptions& options);

/// A folder built in a hidden sibling and renamed to `target` as one step (renameat2). With `overwrite` an old folder
/// is exchanged for the new one, then removed; it must be empty or hold (adapter_)config.json, and no folders
/// (Error(io)): a slip of the pen must not delete anything else. Files in it: refuse_to_lose().
class PendingFolder {
 public:
  PendingFolder(std::filesystem::path target, const WriteOptions& options);
  ~PendingFolder();  // removes the sibling and all in it unless finished
  PendingFolder(const PendingFolder&) = delete;
  PendingFolder& operator=(const PendingFolder&) = delete;

  /// Where to create files meanwhile.
  const std::filesystem::path& building() const noexcept;
  /// For the file `name` of it: replaces nothing, and messages call it by the name it will have.
  WriteOptions inside(const std::string& name) const;
  const std::filesystem::path& target() const noexcept;
  /// Before the work, and looked at again by finish(): Error(io) if the folder to be replaced holds a file that is
  /// neither one of `names`, which the new folder will have, nor weights as transformers names them (model.safetensors,
  /// model-N-of-N.safetensors, their index): what somebody put there is not deleted in silence.
  void refuse_to_lose(const std::vector<std::string>& names);
  void finish();

 private:
  friend void finish_together(const PendingSet& set);
  struct State;
  std::unique_ptr<State> state_;
};

/// What one run writes and what belongs together: the shards of a split, several types, folders beside them.
struct PendingSet {
  std::vector<PendingFile*> files;
  // first shard first: no reader opens the others without it
  std::vector<std::vector<PendingFile*>> splits = {};
  std::vector<PendingFolder*> folders;
  // old files that the new set stands for under other names (shards of another split)
  std::vector<std::filesystem::path> replaced;
};
/// finish() for all of them: every byte is synced before the first takes its name, so that the set is incomplete only
/// between a few renames. If one cannot take its name, the others give theirs up again and the Error is thrown; a file
/// that had replaced another cannot, and the Error names it as complete. `replaced` go once every output has its name.
/// A split that replaces another of its names loses the old first shard before it gets any new one, and gets its own
/// last: old and new shards never stand side by side as what reads as a model.
/// A signal in the midst waits until all of it is done (remove_pending_on_signal); SIGKILL and a power cut alone can
/// leave a part of the set: some files and folders new and the others old, each whole, and at most one split without its
/// first shard.
void finish_together(const PendingSet& set);

/// Removes every temporary this process still holds, folders with all in them; async-signal-safe. Called by the signal
/// handlers that tools installs.
/// Waits, at most 10 s, while another thread gives the files of one result their names: a split is published whole or
/// not at all.
/// The process must end after it. More than 64 at once: the rest are left to the next run.
void remove_pending_on_signal() noexcept;

}  // namespace ropewalk

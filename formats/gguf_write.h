#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "formats/gguf.h"
#include "lib/encoding_error.h"
#include "lib/executor.h"
#include "lib/pending_file.h"

namespace ropewalk::formats {

/// Where one plan goes: "NAME.gguf", or "NAME-00001-of-0000N.gguf" beside it if the split gives several files.
struct GgufTarget {
  std::filesystem::path path;
  GgufSplit split = {};
};

struct GgufWritten {
  std::vector<std::filesystem::path> files;  // shard 0 first
  std::uint64_t bytes = 0;                   // of all of them
  // what else stands there under that name: shards of another split, or the unsplit file. They go when the new files
  // have come
  std::vector<std::filesystem::path> replaced;
};

/// The files `plan` will become at `target`, nothing written: for --dry-run and the space check.
GgufWritten planned_files(const GgufPlan& plan, const GgufTarget& target);

/// GGUF outputs being written. The constructor lays every plan out, reserves the space and writes headers and padding;
/// append_items hands over what is to be streamed;
/// finish() gives all files their names. Destroyed before that, it leaves nothing behind.
class GgufOutputs {
 public:
  /// plans[i] goes to targets[i]. Error(usage) if two outputs would be one file. Error(io) without `overwrite` if a
  /// file or a shard of any count stands under a target's name: two splits of one name side by side are a trap for
  /// whoever opens them.
  GgufOutputs(std::vector<GgufPlan> plans, const std::vector<GgufTarget>& targets, const WriteOptions& options);
  ~GgufOutputs();
  GgufOutputs(const GgufOutputs&) = delete;
  GgufOutputs& operator=(const GgufOutputs&) = delete;

  /// Adds a sink per output: a tensor shared by plans (export_ggufs), or with another writer of the same pass, is read
  /// once for all of them. The sinks point into this object. `measure`: for errors() after the pass.
  void append_items(StreamPlan& pass, bool measure = false);
  /// Of each tensor of an output's plan, what its encoding has lost of what was encoded; empty if nothing was measured.
  std::vector<EncodingError> errors(std::size_t output) const;
  /// After everything was streamed: what is to take its name, for finish_together() with other writers' outputs.
  void append_pending(PendingSet& set) const;
  /// What was written, by output.
  std::vector<GgufWritten> written() const;
  /// After everything was streamed: both of the above.
  std::vector<GgufWritten> finish();

 private:
  struct Output;
  std::vector<Output> outputs_;
};

/// All of it in one call: lay out, stream, finish. No file takes its name before every byte of all of them is written.
std::vector<GgufWritten> write_ggufs(std::vector<GgufPlan> plans, const std::vector<GgufTarget>& targets,
                                     const WriteOptions& write, const StreamOptions& streaming);

}  // namespace ropewalk::formats

#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "formats/source.h"
#include "lib/executor.h"
#include "lib/pending_file.h"

namespace ropewalk::formats {

/// Carried files that are not carried as they are.
struct HfChanges {
  std::map<std::string, std::string> texts;  // by name, instead of the source's or where it has none
  std::set<std::string> left_out;
};
struct HfWriteOptions {
  WriteOptions write;
  StreamOptions stream;
  std::uint64_t max_shard_bytes = 5'000'000'000;  // transformers' default, decimal
  std::string card;                               // README.md to write; empty: the source's is carried
  std::optional<DType> dtype = std::nullopt;      // of every float tensor; nullopt: each keeps its own
  bool saturate = false;                          // values past its range are clamped, not refused
  HfChanges changes = {};
};
struct HfWritten {
  std::vector<std::string> files;  // names in the folder, sorted
  std::uint64_t bytes = 0;
};
/// source.checkpoint being written as an HF folder: config.json (dtype updated, rope as `config` says), shards, index,
/// tokenizer and other files carried over and listed.
/// The constructor reserves the space and writes all but the weights under a hidden name; append_items hands over what
/// is to be streamed; seal() completes the folder on disk, finish() gives it its name. It appears whole or not at all.
class HfOutput {
 public:
  HfOutput(const Source& source, const Json& config, const std::filesystem::path& target,
           const HfWriteOptions& options);
  ~HfOutput();
  HfOutput(HfOutput&&) noexcept;
  HfOutput& operator=(HfOutput&&) = delete;

  /// The source's own tensors, so that other writers' sinks of them join. The sinks point into this object.
  void append_items(StreamPlan& pass) const;
  /// After everything was streamed.
  void seal();
  /// After seal(): what is to take its name, for finish_together() with other writers' outputs.
  void append_pending(PendingSet& set) const;
  /// After seal(): the same for this folder alone.
  HfWritten finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// All of it in one call.
HfWritten write_hf_folder(const Source& source, const Json& config, const std::filesystem::path& target,
                          const HfWriteOptions& options);

}  // namespace ropewalk::formats

#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/executor.h"
#include "lib/pending_file.h"

namespace ropewalk::formats {

/// A folder of texts and safetensors files being written under a hidden name: it appears whole or not at all
/// (lib/pending_file.h). Texts are written at once; tensors are laid out, their space reserved, and streamed by whoever
/// takes append_items().
class FolderWriter {
 public:
  FolderWriter(const std::filesystem::path& target, const WriteOptions& options);

  /// A tensor to write: `read` is what is streamed, `stored` the same as the folder holds it, for its name, shape and
  /// encoding.
  struct Stored {
    TensorPtr read, stored;
  };
  void add_text(const std::string& name, std::string_view content);
  /// `name` may have folders in it.
  void add_copy(const std::string& name, const std::filesystem::path& from);
  void add_safetensors(const std::string& name, const std::vector<Stored>& tensors, OutOfRange out_of_range);

  /// The sinks point into this object.
  void append_items(StreamPlan& pass) const;
  /// After everything was streamed: the files of tensors are complete on disk.
  void close_files();

  PendingFolder& pending() noexcept { return folder_; }
  /// Names in the folder, in the order they came, and the bytes of all of them.
  const std::vector<std::string>& files() const noexcept { return names_; }
  std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  PendingFolder folder_;
  std::vector<std::unique_ptr<PendingFile>> open_;  // all at once: the space is reserved before the first block
  std::vector<std::pair<TensorPtr, Sink>> sinks_;
  std::vector<std::string> names_;
  std::uint64_t bytes_ = 0;
};

}  // namespace ropewalk::formats

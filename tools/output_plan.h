#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "formats/source.h"
#include "lib/executor.h"
#include "tools/common_options.h"
#include "tools/progress.h"

namespace ropewalk::tools {

/// What a writer is about to do; checked and announced before the first byte.
struct OutputPlan {
  struct Target {
    std::filesystem::path path;  // a file or a folder
    std::uint64_t bytes = 0;
  };
  std::vector<Target> targets;
  std::string what;  // "2 files", "1 folder"
  std::uint64_t read_bytes = 0;
};

enum class OutputKind { safetensors, gguf, folder };

/// Error(usage) for a name that its kind cannot have: a file's ends in .safetensors or .gguf and is not that of one file
/// of a split, which belongs to the others; a folder's does not end as the files of models do.
void check_output_name(const std::filesystem::path& target, OutputKind kind);
/// Error(io) for one that would replace what the command line reads (refuse_input). Error(io) if a target exists
/// (without --overwrite), is or holds the source or the working directory, may not be
/// replaced by what is written (lib/pending_file.h), lies where no folder is or where this user may not write, or has an
/// impossible name.
void check_target(const std::filesystem::path& target, OutputKind kind, const formats::Source& source,
                  const CommonOptions& common);
/// Files that hold the weights of what was opened.
std::vector<std::filesystem::path> weight_files(const formats::Source& source);
/// Error(usage) if a report would lie in a folder that is to be written, Error(io) if a file system has too little room
/// for what goes there, all targets together; otherwise one line:
/// "writing 2 files, 8.9 MB, from 8.4 MB of weights; 41 GB free".
void announce(const OutputPlan& plan, const CommonOptions& common, const Io& io);

/// What becomes of infinities and NaN of a source in tensors whose type could hold them. A quantizer refuses them: the
/// file would compute nothing.
enum class NotFinite : std::uint8_t { pass_on, refuse };

/// The pass over the weights, with a progress bar. What it finds (infinities and NaN, values clamped, by tensor) is
/// printed and returned. Error(bad_input) naming file, tensor and row for the first that is refused.
std::vector<std::string> stream_pass(const StreamPlan& pass, const std::string& what, const CommonOptions& common,
                                     const Io& io, NotFinite policy = NotFinite::pass_on);

}  // namespace ropewalk::tools

#pragma once

#include <filesystem>

#include "lib/pending_file.h"

namespace ropewalk {

/// How a file came to be at a second place.
enum class CloneMethod {
  reflink,  // FICLONE: shares blocks until one of them is written
  copy,
  link,  // a hard link: the same file under two names
};
const char* clone_method_name(CloneMethod method) noexcept;  // "reflink", "copy", "link"

/// `to` gets the content of `from`: by reflink where the file system can, else by copying; with `allow_link` by hard
/// link first.
/// `to` must not exist. Of `options`, `sync` (its data is on the disk afterwards) and `called` count. Error(io) or
/// Error(bad_input) naming the file.
CloneMethod clone_file(const std::filesystem::path& from, const std::filesystem::path& to, bool allow_link,
                       const WriteOptions& options);

}  // namespace ropewalk

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "lib/file.h"

namespace ropewalk::formats::torch {

/// A member of a zip file, stored as it is (torch compresses none).
struct ZipMember {
  std::uint64_t offset, bytes;  // of its data in the file
};

/// The members of a zip file by name (PKWARE APPNOTE 6.3.10, with 64-bit extensions): end record, central directory, and each
/// local header, which says where the data begin. Error(bad_input) naming the byte for a directory that does not fit the
/// file, a name twice, members that are compressed or encrypted, more than 300,000 of them.
std::map<std::string, ZipMember> read_zip(const File& file);

}  // namespace ropewalk::formats::torch

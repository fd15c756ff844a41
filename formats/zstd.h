#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace ropewalk::formats {

/// One Zstandard frame (RFC 8878) that says its size and ends with a checksum. The same bytes from the same release of
/// the library.
std::vector<std::byte> zstd_compressed(std::span<const std::byte> bytes);

/// What all frames of `file` hold, one after the other. Error(bad_input) naming `path` if they are cut short, damaged or
/// followed by anything else, and if they hold more than `max_bytes`: it is found out by reading them to their end first,
/// in the memory of zstd's window (128 MiB at most), whatever a header claims.
std::vector<std::byte> zstd_decompressed(std::span<const std::byte> file, std::uint64_t max_bytes,
                                         const std::string& path);

}  // namespace ropewalk::formats

#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace ropewalk {

class File;

/// SHA-256 of a file's bytes, in lower-case hexadecimal; the file is read a piece at a time.
std::string file_sha256(const std::filesystem::path& path);
/// Of its first `size` bytes.
std::string file_sha256(const File& file, std::uint64_t size);

}  // namespace ropewalk

#pragma once

#include <filesystem>
#include <string>

namespace ropewalk::tools {

/// SHA-256 of a file's bytes, in lower-case hexadecimal.
std::string file_sha256(const std::filesystem::path& path);

}  // namespace ropewalk::tools

#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace ropewalk::formats {

/// "NAME-00002-of-00005.gguf", taken apart. Numbers are 1-based in names, 0-based here (as in split.no).
struct GgufShardName {
  std::filesystem::path folder;
  std::string stem;  // "NAME"
  std::uint64_t number = 0, count = 0;
};

/// nullopt if the file name is not a shard's.
std::optional<GgufShardName> parse_shard_name(const std::filesystem::path& path);

/// "00005" for 5.
std::string shard_number(std::uint64_t number);
/// "-00002-of-00005" for number 1 of 5.
std::string shard_suffix(std::uint64_t number, std::uint64_t count);
std::filesystem::path shard_path(const GgufShardName& name, std::uint64_t number);

}  // namespace ropewalk::formats

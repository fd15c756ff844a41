#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ropewalk::formats {

/// "NAME-00002-of-00005.gguf", taken apart. Numbers are 1-based in names, 0-based here (as in split.no).
struct GgufShardName {
  std::filesystem::path folder;
  std::string stem;  // "NAME"
  std::uint64_t number = 0, count = 0;
};

/// nullopt if the file name is not a shard's. Shards of safetensors are named alike, with that `extension`.
std::optional<GgufShardName> parse_shard_name(const std::filesystem::path& path, std::string_view extension = ".gguf");

/// "00005" for 5.
std::string shard_number(std::uint64_t number);
/// "-00002-of-00005" for number 1 of 5.
std::string shard_suffix(std::uint64_t number, std::uint64_t count);
std::filesystem::path shard_path(const GgufShardName& name, std::uint64_t number);

/// "NAME" of an output "NAME.gguf": what its shards' names begin with.
std::string split_stem(const std::filesystem::path& target);
/// What stands there under the name of an output NAME.gguf: the file itself and shards "NAME-00001-of-00003.gguf" of
/// any count, sorted. Empty if nothing does, or if the folder cannot be listed: what is wrong with it the writer says.
std::vector<std::filesystem::path> existing_files_of(const std::filesystem::path& target);

}  // namespace ropewalk::formats

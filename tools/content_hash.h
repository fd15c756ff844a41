#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

namespace ropewalk::tools {

/// What stands at a path, by its bytes.
struct Content {
  std::string sha256;
  std::uint64_t bytes = 0;
  bool operator==(const Content&) const = default;
};

/// Content of paths, each read once until it is forgotten. A folder is the names and bytes of all files below it, links
/// followed. With a file go those it is no whole without: a GGUF's other shards; of a .safetensors or an index the files
/// beside it.
class ContentHashes {
 public:
  const Content& of(const std::filesystem::path& path);
  void forget(const std::filesystem::path& path);

 private:
  std::map<std::string, Content> known_;
};

}  // namespace ropewalk::tools

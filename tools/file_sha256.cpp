#include "tools/file_sha256.h"

#include <algorithm>
#include <span>
#include <vector>

#include "lib/file.h"
#include "lib/sha256.h"

namespace ropewalk::tools {

std::string file_sha256(const std::filesystem::path& path) {
  const auto file = File::open(path);
  Sha256 hash;
  std::vector<std::byte> block(std::size_t{4} << 20);
  for (std::uint64_t at = 0; at < file->size(); at += block.size()) {
    const std::span part = std::span(block).first(std::min<std::uint64_t>(block.size(), file->size() - at));
    file->read(at, part);
    hash.update(part);
  }
  return hash.finish();
}

}  // namespace ropewalk::tools

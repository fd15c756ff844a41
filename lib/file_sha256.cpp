#include "lib/file_sha256.h"

#include <algorithm>
#include <span>
#include <vector>

#include "lib/file.h"
#include "lib/sha256.h"

namespace ropewalk {

std::string file_sha256(const File& file, std::uint64_t size) {
  Sha256 hash;
  std::vector<std::byte> piece(static_cast<std::size_t>(std::min(size, std::uint64_t{4} << 20)));
  for (std::uint64_t at = 0; at < size; at += piece.size()) {
    const std::span part = std::span(piece).first(std::min<std::uint64_t>(piece.size(), size - at));
    file.read(at, part);
    hash.update(part);
  }
  return hash.finish();
}

std::string file_sha256(const std::filesystem::path& path) {
  const auto file = File::open(path);
  return file_sha256(*file, file->size());
}

}  // namespace ropewalk

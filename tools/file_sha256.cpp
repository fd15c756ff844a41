#include "tools/file_sha256.h"

#include "lib/file.h"
#include "lib/sha256.h"

namespace ropewalk::tools {

std::string file_sha256(const std::filesystem::path& path) {
  const auto file = File::open(path);
  return sha256(*file, file->size());
}

}  // namespace ropewalk::tools

#include "tools/content_hash.h"

#include <algorithm>
#include <regex>
#include <span>
#include <vector>

#include "lib/file.h"
#include "lib/file_sha256.h"
#include "lib/sha256.h"

namespace ropewalk::tools {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> files_below(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder, fs::directory_options::follow_directory_symlink))
    if (entry.is_regular_file()) files.push_back(entry.path());
  return files;
}

std::vector<fs::path> files_beside(const fs::path& file, const std::string& name_begins, const std::string& name_ends) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(file.parent_path().empty() ? fs::path(".") : file.parent_path())) {
    const std::string name = entry.path().filename().string();
    if (entry.is_regular_file() && name.starts_with(name_begins) && name.ends_with(name_ends))
      files.push_back(entry.path());
  }
  return files;
}

/// All files that make up what stands at `path`; one alone is itself.
std::vector<fs::path> parts_of(const fs::path& path) {
  if (is_folder(path)) return files_below(path);
  const std::string name = path.filename().string();
  static const std::regex kShard("(.*-)[0-9]{5}(-of-[0-9]{5}\\.gguf)");
  if (std::smatch match; std::regex_match(name, match, kShard)) return files_beside(path, match[1], match[2]);
  if (name.ends_with(".safetensors") || name.ends_with(".index.json")) return files_beside(path, "", "");
  return {path};
}

}  // namespace

const Content& ContentHashes::of(const fs::path& path) {
  const std::string key = whole_path(path).string();
  if (const auto found = known_.find(key); found != known_.end()) return found->second;
  std::vector<fs::path> files = parts_of(path);
  Content content;
  if (files.size() == 1 && files.front() == path) {
    content = {file_sha256(path), fs::file_size(path)};
  } else {
    const fs::path root = is_folder(path) ? path : path.parent_path();
    std::vector<std::string> lines;
    for (const fs::path& file : files) {
      lines.push_back(file.lexically_relative(root).generic_string() + '\0' + file_sha256(file) + '\n');
      content.bytes += fs::file_size(file);
    }
    std::ranges::sort(lines);
    Sha256 hash;
    for (const std::string& line : lines) hash.update(std::as_bytes(std::span(line)));
    content.sha256 = hash.finish();
  }
  return known_.emplace(key, content).first->second;
}

void ContentHashes::forget(const fs::path& path) { known_.erase(whole_path(path).string()); }

}  // namespace ropewalk::tools

#include "formats/gguf_split.h"

#include <algorithm>
#include <charconv>
#include <system_error>

namespace ropewalk::formats {
namespace {

std::optional<std::uint64_t> five_digits(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.size() < 5 || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

std::optional<GgufShardName> parse_shard_name(const std::filesystem::path& path, std::string_view extension) {
  if (path.extension() != extension) return std::nullopt;
  const std::string stem = path.stem().string();
  const std::size_t of = stem.rfind("-of-");
  if (of == std::string::npos) return std::nullopt;
  const std::size_t dash = of == 0 ? std::string::npos : stem.rfind('-', of - 1);
  if (dash == std::string::npos) return std::nullopt;
  const auto number = five_digits(std::string_view(stem).substr(dash + 1, of - dash - 1));
  const auto count = five_digits(std::string_view(stem).substr(of + 4));
  if (!number || !count || *number == 0 || *number > *count) return std::nullopt;
  return GgufShardName{path.parent_path(), stem.substr(0, dash), *number - 1, *count};
}

std::string shard_number(std::uint64_t number) {
  std::string digits = std::to_string(number);
  if (digits.size() < 5) digits.insert(0, 5 - digits.size(), '0');
  return digits;
}

std::string shard_suffix(std::uint64_t number, std::uint64_t count) {
  return "-" + shard_number(number + 1) + "-of-" + shard_number(count);
}

std::filesystem::path shard_path(const GgufShardName& name, std::uint64_t number) {
  return name.folder / (name.stem + shard_suffix(number, name.count) + ".gguf");
}

std::string split_stem(const std::filesystem::path& target) {
  return target.extension() == ".gguf" ? target.stem().string() : target.filename().string();
}

std::vector<std::filesystem::path> existing_files_of(const std::filesystem::path& target) {
  std::vector<std::filesystem::path> found;
  const std::string stem = split_stem(target), whole = target.filename().string();
  std::error_code error;
  const std::filesystem::path folder = target.has_parent_path() ? target.parent_path() : ".";
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::filesystem::path name = entry->path().filename();
    const auto shard = parse_shard_name(name);
    if (name == whole || (shard && shard->stem == stem)) found.push_back(target.parent_path() / name);
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace ropewalk::formats

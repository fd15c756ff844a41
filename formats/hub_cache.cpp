#include "formats/hub_cache.h"

#include <algorithm>

#include "lib/error.h"
#include "lib/file.h"

namespace ropewalk::formats {
namespace {

bool is_name(std::string_view text) {
  if (text.empty() || text.size() > 96 || text.front() == '.' || text.front() == '-' ||
      text.find("..") != std::string_view::npos)
    return false;
  return text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
         std::string_view::npos;
}

/// A branch, tag or commit; slashes are allowed ("refs/pr/1"), leaving the folder is not.
bool is_revision(std::string_view text) {
  while (true) {
    const std::size_t slash = text.find('/');
    if (!is_name(text.substr(0, slash))) return false;
    if (slash == std::string_view::npos) return true;
    text.remove_prefix(slash + 1);
  }
}

std::string trimmed(std::string text) {
  const auto is_space = [](unsigned char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; };
  while (!text.empty() && is_space(text.back())) text.pop_back();
  return text;
}

}  // namespace

std::optional<HubName> parse_hub_name(std::string_view text) {
  const std::size_t at = text.find('@');
  const std::string_view revision = at == std::string_view::npos ? "main" : text.substr(at + 1);
  text = text.substr(0, at);
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const std::string_view org = text.substr(0, slash), name = text.substr(slash + 1);
  if (!is_name(org) || !is_name(name) || !is_revision(revision)) return std::nullopt;
  return HubName{std::string(org), std::string(name), std::string(revision)};
}

std::optional<std::filesystem::path> find_in_hub_cache(const std::filesystem::path& hub_cache, const HubName& name) {
  if (hub_cache.empty()) return std::nullopt;
  const std::filesystem::path repository = hub_cache / ("models--" + name.org + "--" + name.name);
  if (!is_folder(repository)) return std::nullopt;
  const std::filesystem::path ref = repository / "refs" / name.revision;
  std::string commit = name.revision;
  if (is_there(ref)) {
    commit = trimmed(read_text_file(ref, 256));
    if (!is_name(commit))
      throw Error(ErrorKind::bad_input, {.path = ref.string()}, "the file does not hold the name of a commit",
                  "the cache entry is damaged: download the model again");
  }
  const std::filesystem::path snapshot = repository / "snapshots" / commit;
  if (is_folder(snapshot)) return snapshot;
  throw Error(ErrorKind::bad_input, {.path = repository.string()},
              "'" + name.text() + "' is in the Hub cache, but not its revision '" + name.revision + "'",
              "download that revision, or name one that is there: " + name.text() + "@REV");
}

std::optional<std::string> repository_of(const std::filesystem::path& folder) {
  const std::filesystem::path path = whole_path(folder);
  const std::string repository = path.parent_path().parent_path().filename().string();
  if (path.parent_path().filename() != "snapshots" || !repository.starts_with("models--")) return std::nullopt;
  std::string id = repository.substr(8);
  if (const std::size_t dashes = id.find("--"); dashes != std::string::npos) id.replace(dashes, 2, "/");
  return id;
}

std::filesystem::path path_or_hub(const std::string& text, const char* what, const std::filesystem::path& hub_cache) {
  if (is_there(text)) return text;
  if (const auto name = parse_hub_name(text)) {
    if (const auto folder = find_in_hub_cache(hub_cache, *name)) return *folder;
    throw Error(ErrorKind::bad_input, {.path = text},
                std::string("no such ") + what + ": neither a path nor in the Hub cache " +
                    (hub_cache.empty() ? "(none given)" : hub_cache.string()),
                "check the spelling, or fetch it: hf download " + name->text());
  }
  throw Error(ErrorKind::bad_input, {.path = text}, std::string("no such ") + what, "check the path");
}

}  // namespace ropewalk::formats

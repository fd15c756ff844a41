#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace ropewalk::formats {

// The Hub cache of huggingface_hub, never written here:
//   models--ORG--NAME/refs/REV            text: a commit
//   models--ORG--NAME/snapshots/COMMIT/   the files, links into ../../blobs

/// "org/name" or "org/name@REV" with the characters repository names may have; nullopt otherwise.
struct HubName {
  std::string org, name, revision;  // revision: "main" unless said
  std::string text() const { return org + "/" + name; }
};
std::optional<HubName> parse_hub_name(std::string_view text);

/// The snapshot's folder; nullopt if the cache does not have the repository. Error(bad_input) if it has it without that
/// revision, or if the entry is damaged.
std::optional<std::filesystem::path> find_in_hub_cache(const std::filesystem::path& hub_cache, const HubName& name);

/// "org/name" (or "name") of a snapshot's folder in a Hub cache; nullopt for any other.
std::optional<std::string> repository_of(const std::filesystem::path& folder);

/// A path as written, or the Hub cache's folder. Error(bad_input) naming `what` ("model", "adapter") if it is neither.
std::filesystem::path path_or_hub(const std::string& text, const char* what, const std::filesystem::path& hub_cache);

}  // namespace ropewalk::formats

#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace ropewalk::tools {

/// What an argument is to its command.
enum class Role : std::uint8_t {
  value,    // no path
  reads,    // a file or folder, several with commas between, or a SOURCE
  adapter,  // DIR[:SCALE], which is read
  writes,   // a file or folder
  place,    // where several may be written, a folder or a pattern: their names are the command's to know
  keeps,    // a file that an interrupted run leaves to the next one, and that goes when the command is done
};

/// How the help calls an option's argument, and its role: "N", reads("FILE"), writes("DIR").
struct Metavar {
  Metavar(const char* words, Role is = Role::value) : text(words), role(is) {}  // NOLINT: a word is a value
  const char* text;
  Role role;
};
inline Metavar reads(const char* text) { return {text, Role::reads}; }
inline Metavar writes(const char* text) { return {text, Role::writes}; }

/// An argument that is no mere value.
struct NamedFile {
  Role role;
  std::string option;  // "--report", or a positional's name: "SOURCE"
  std::string value;   // as written
};

struct NamedPath {
  std::string as, path;  // NamedFile::option and a path that its value names
};
/// What a command line reads, as far as it is there, and what it writes.
struct NamedPaths {
  std::vector<NamedPath> reads, writes;
};
/// `hub_cache`: where org/name is looked for.
NamedPaths named_paths(const std::vector<NamedFile>& files, const std::filesystem::path& hub_cache);
/// Paths that are there of one that is read: itself, those of a list, or the parts of a SOURCE.
std::vector<std::string> paths_read(const NamedFile& file, const std::filesystem::path& hub_cache);

/// The one rule of what may be written where, by device and inode: Error(io) if writing `output` would replace
/// `input`, or a file that is read with a folder.
void refuse_input(const NamedPath& output, const NamedPath& input);
/// That for every pair of `paths`; and Error(usage) for two outputs of one path.
void refuse_shared(const NamedPaths& paths);
/// Whether `folder`, when it is replaced, takes `path` with it.
bool holds(const std::string& folder, const std::string& path);

}  // namespace ropewalk::tools

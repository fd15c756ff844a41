#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace ropewalk {

/// Absolute, without "." and "..", without a slash at its end; links are not followed. Empty stays empty.
std::filesystem::path whole_path(const std::filesystem::path& path);
/// What a folder or file is called: "b" of "a/b", of "a/b/" and, where a/b is the working directory, of ".". Empty for
/// "/".
std::string last_part(const std::filesystem::path& path);

/// What stands at a path, links followed.
enum class PathKind { missing, file, folder, other };  // other: a pipe, device or socket
/// Error(io) if that may not be known (no permission for a folder on the way), Error(bad_input) if links lead in a
/// circle. A name longer than names can be is missing: what users write in place of a path is tried as one first.
PathKind path_kind(const std::filesystem::path& path);
/// Whatever it is: who opens it then says what is wrong with it.
inline bool is_there(const std::filesystem::path& path) { return path_kind(path) != PathKind::missing; }
inline bool is_folder(const std::filesystem::path& path) { return path_kind(path) == PathKind::folder; }
/// Error(io) unless the folder's entries may be listed and looked at.
void require_readable_folder(const std::filesystem::path& folder);

/// A regular file open for reading. Reads are positional, so any thread may read at any time.
class File {
 public:
  /// Error(bad_input) if missing or not a regular file (nothing else is opened, so nothing waits), Error(io) if not
  /// readable.
  static std::shared_ptr<const File> open(const std::filesystem::path& path);
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  const std::string& path() const noexcept { return path_; }
  std::uint64_t size() const noexcept { return size_; }

  /// Fills `bytes` from `offset_bytes`. Error(bad_input) with the byte if the file ends first, Error(io) if the disk
  /// fails.
  void read(std::uint64_t offset_bytes, std::span<std::byte> bytes) const;
  int descriptor() const noexcept { return fd_; }

 private:
  File(std::string path, int fd, std::uint64_t size) : path_(std::move(path)), fd_(fd), size_(size) {}
  std::string path_;
  int fd_;
  std::uint64_t size_;
};

/// The whole file as text. Error(bad_input) if larger than `max_bytes`: nothing is allocated for a size only a header
/// claims.
std::string read_text_file(const std::filesystem::path& path, std::uint64_t max_bytes);

}  // namespace ropewalk

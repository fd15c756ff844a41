#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace ropewalk {

/// A regular file open for reading. Reads are positional, so any thread may read at any time.
class File {
 public:
  /// Error(bad_input) if missing or not a regular file, Error(io) if not readable.
  static std::shared_ptr<const File> open(const std::filesystem::path& path);
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  const std::string& path() const noexcept { return path_; }
  std::uint64_t size() const noexcept { return size_; }
  /// Device and inode, to recognise a source that is the target.
  bool same_file(const std::filesystem::path& other) const;

  /// Fills `bytes` from `offset_bytes`. Error(bad_input) with the byte if the file ends first, Error(io) if the disk fails.
  void read(std::uint64_t offset_bytes, std::span<std::byte> bytes) const;
  int descriptor() const noexcept { return fd_; }

 private:
  File(std::string path, int fd, std::uint64_t size) : path_(std::move(path)), fd_(fd), size_(size) {}
  std::string path_;
  int fd_;
  std::uint64_t size_;
};

/// The whole file as text. Error(bad_input) if larger than `max_bytes`: nothing is allocated for a size only a header claims.
std::string read_text_file(const std::filesystem::path& path, std::uint64_t max_bytes);

}  // namespace ropewalk

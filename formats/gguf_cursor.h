#pragma once

#include <array>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/error.h"
#include "lib/file.h"

namespace ropewalk::formats {

/// What to do about a GGUF whose bytes run out, and about one whose fields are wrong.
inline constexpr const char* kGgufFetchAgain = "the file is cut short or corrupt: fetch it again";
inline constexpr const char* kGgufWriteAgain = "the file is malformed: write it again with a current converter";

/// A name for a message; control characters as '?'.
std::string in_quotes(std::string_view text);
/// Names are shown to people and written as JSON: UTF-8 without control characters.
bool is_printable_utf8(std::string_view text);

/// Little-endian cursor over a file, through one window: the header's size is not known before it is read. Every
/// failure is Error(bad_input) naming file, subject and the byte at which the field in question begins (of a string: its
/// length); nothing is allocated for a size that the file cannot hold.
class GgufCursor {
 public:
  explicit GgufCursor(std::shared_ptr<const File> file) : file_(std::move(file)) {}

  std::uint64_t position() const noexcept { return position_; }
  std::uint64_t remaining() const noexcept { return file_->size() - position_; }
  /// Where the field read last began.
  std::uint64_t field() const noexcept { return field_; }
  /// What is being read, for messages: " of key 'x'".
  void set_subject(std::string subject) { subject_ = std::move(subject); }

  void read(std::span<std::byte> out, const char* field) {
    field_ = position_;
    fetch(out, field);
  }

  template <typename T>
  T number(const char* field) {
    std::array<std::byte, sizeof(T)> bytes;
    read(bytes, field);
    T value;
    std::memcpy(&value, bytes.data(), sizeof(T));  // the hosts we build for are little-endian
    return value;
  }

  /// u64 length and that many bytes.
  std::string text(const char* field, std::uint64_t max_bytes);
  /// Refuses a count whose items take at least item_bytes each and would pass the file's end, or that is above `max`.
  void check_count(std::uint64_t n, std::uint64_t item_bytes, std::uint64_t max, const char* what) const;

  /// Error at the field read last.
  [[noreturn]] void fail(const std::string& problem, const std::string& fix,
                         ErrorKind kind = ErrorKind::bad_input) const {
    fail_at(field_, problem, fix, kind);
  }
  /// Error at an earlier one.
  [[noreturn]] void fail_at(std::uint64_t place, const std::string& problem, const std::string& fix,
                            ErrorKind kind = ErrorKind::bad_input) const;

 private:
  /// Fails if fewer than `bytes` are left.
  void need(std::uint64_t bytes, const char* field) const;
  void fetch(std::span<std::byte> out, const char* field);
  void refill();

  std::shared_ptr<const File> file_;
  std::uint64_t position_ = 0, field_ = 0, window_begin_ = 0;
  std::size_t window_bytes_ = 0;
  std::vector<std::byte> window_;
  std::string subject_;
};

}  // namespace ropewalk::formats

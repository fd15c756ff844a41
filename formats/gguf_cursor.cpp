#include "formats/gguf_cursor.h"

#include <utf8proc.h>

#include <algorithm>

#include "lib/plural.h"

namespace ropewalk::formats {
namespace {

constexpr std::size_t kWindow = std::size_t{1} << 18;

}  // namespace

std::string in_quotes(std::string_view text) {
  std::string out = "'";
  for (char c : text) out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  return out + "'";
}

bool is_printable_utf8(std::string_view text) {
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  for (std::size_t at = 0; at < text.size();) {
    utf8proc_int32_t code = -1;
    const utf8proc_ssize_t used = utf8proc_iterate(bytes + at, static_cast<utf8proc_ssize_t>(text.size() - at), &code);
    if (used <= 0 || code < 0x20 || code == 0x7f) return false;
    at += static_cast<std::size_t>(used);
  }
  return true;
}

void GgufCursor::need(std::uint64_t bytes, const char* field) const {
  if (bytes > remaining())
    fail(std::string(field) + subject_ + " needs " + plural(bytes, "byte") + ", " + are_left(remaining()),
         kGgufFetchAgain);
}

void GgufCursor::fetch(std::span<std::byte> out, const char* field) {
  need(out.size(), field);
  while (!out.empty()) {
    if (position_ < window_begin_ || position_ >= window_begin_ + window_bytes_) refill();
    const std::size_t at = static_cast<std::size_t>(position_ - window_begin_);
    const std::size_t n = std::min(out.size(), window_bytes_ - at);
    std::memcpy(out.data(), window_.data() + at, n);
    out = out.subspan(n);
    position_ += n;
  }
}

std::string GgufCursor::text(const char* field, std::uint64_t max_bytes) {
  const std::uint64_t n = number<std::uint64_t>(field);
  if (n > remaining()) need(n, field);
  if (n > max_bytes)
    fail(std::string(field) + subject_ + " claims " + std::to_string(n) + " bytes, at most " +
             std::to_string(max_bytes) + " are accepted",
         kGgufWriteAgain);
  std::string out(static_cast<std::size_t>(n), '\0');
  fetch(std::as_writable_bytes(std::span(out.data(), out.size())), field);  // the field began with its length
  return out;
}

void GgufCursor::check_count(std::uint64_t n, std::uint64_t item_bytes, std::uint64_t max, const char* what) const {
  if (n > remaining() / item_bytes)
    fail(std::string(what) + subject_ + " is " + std::to_string(n) + ", which needs at least " +
             std::to_string(item_bytes) + " bytes each, " + are_left(remaining()),
         kGgufFetchAgain);
  if (n > max)
    fail(std::string(what) + subject_ + " is " + std::to_string(n) + ", at most " + std::to_string(max) +
             " are accepted",
         kGgufWriteAgain);
}

void GgufCursor::fail_at(std::uint64_t place, const std::string& problem, const std::string& fix,
                         ErrorKind kind) const {
  throw Error(kind, {.path = file_->path(), .offset = place}, problem, fix);
}

void GgufCursor::refill() {
  window_.resize(kWindow);
  window_begin_ = position_;
  window_bytes_ = static_cast<std::size_t>(std::min<std::uint64_t>(kWindow, file_->size() - position_));
  file_->read(window_begin_, std::span(window_.data(), window_bytes_));
}

}  // namespace ropewalk::formats

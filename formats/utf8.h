#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace ropewalk::formats {

/// Bytes the character starting with `first` would take by its first byte alone, 1 for a continuation byte. Tokenizers
/// cut text by this.
constexpr std::size_t utf8_length(char first) noexcept {
  constexpr std::uint8_t kLengths[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4};
  return kLengths[static_cast<unsigned char>(first) >> 4];
}

/// Bytes of the valid character `text` starts with (no overlong forms, no surrogates, at most U+10FFFF); 0 if there is
/// none.
constexpr std::size_t valid_utf8_prefix(std::string_view text) noexcept {
  if (text.empty()) return 0;
  const auto first = static_cast<unsigned char>(text[0]);
  if (first < 0x80) return 1;
  if (first < 0xC2 || first > 0xF4) return 0;
  const std::size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  if (text.size() < length) return 0;
  std::uint32_t code = first & (0xFFu >> (length + 1));
  for (std::size_t at = 1; at < length; ++at) {
    const auto next = static_cast<unsigned char>(text[at]);
    if ((next & 0xC0) != 0x80) return 0;
    code = code << 6 | (next & 0x3Fu);
  }
  const std::uint32_t smallest = length == 2 ? 0x80 : length == 3 ? 0x800 : 0x10000;
  if (code < smallest || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return 0;
  return length;
}

/// Index of the first byte that is not part of a valid character; text.size() if all are.
constexpr std::size_t first_invalid_utf8(std::string_view text) noexcept {
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t length = valid_utf8_prefix(text.substr(at));
    if (length == 0) return at;
    at += length;
  }
  return at;
}

}  // namespace ropewalk::formats

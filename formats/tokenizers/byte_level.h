#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "formats/tokenizers/characters.h"

namespace ropewalk::formats {

/// GPT-2's alphabet: every byte has a printable character. Printable Latin-1 stands for itself, the 68 other bytes are
/// U+0100 onwards in order: a space is U+0120, a newline U+010A.
constexpr std::array<std::uint16_t, 256> kByteCharacters = [] {
  std::array<std::uint16_t, 256> out{};
  std::uint16_t next = 256;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    out[byte] = printable ? static_cast<std::uint16_t>(byte) : next++;
  }
  return out;
}();

/// The byte a character stands for; nullopt outside the alphabet.
inline std::optional<std::uint8_t> byte_of_character(std::uint32_t code) noexcept {
  static constexpr auto kBytes = [] {
    std::array<std::int16_t, 324> out{};
    for (auto& byte : out) byte = -1;
    for (unsigned byte = 0; byte < 256; ++byte) out[kByteCharacters[byte]] = static_cast<std::int16_t>(byte);
    return out;
  }();
  if (code >= kBytes.size() || kBytes[code] < 0) return std::nullopt;
  return static_cast<std::uint8_t>(kBytes[code]);
}

/// Appends `bytes` spelled in the alphabet.
inline void append_byte_characters(std::string& out, std::string_view bytes) {
  for (char byte : bytes) append_utf8(out, kByteCharacters[static_cast<unsigned char>(byte)]);
}

/// The bytes that `text`, valid UTF-8, spells; nullopt if it has a character outside the alphabet.
inline std::optional<std::string> spelled_bytes(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const Character next = first_character(text);
    const auto byte = byte_of_character(next.code);
    if (!byte) return std::nullopt;
    out += static_cast<char>(*byte);
    text.remove_prefix(next.length);
  }
  return out;
}

}  // namespace ropewalk::formats

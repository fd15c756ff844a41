#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ropewalk::formats {

inline constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581, SentencePiece's space

/// isspace of the C locale: the blanks that a token which strips its neighbours takes.
constexpr bool is_space_byte(char c) noexcept { return c == ' ' || (c >= '\t' && c <= '\r'); }

/// Classes of characters as the tokenizers library takes them, and walking through valid UTF-8.

/// The character `text` starts with and its bytes. `text` must not be empty and must be valid UTF-8.
struct Character {
  std::uint32_t code = 0;
  std::size_t length = 1;
};
Character first_character(std::string_view text) noexcept;
/// The last one.
Character last_character(std::string_view text) noexcept;
void append_utf8(std::string& out, std::uint32_t code);

/// `text` with every maximal part that is no character replaced by U+FFFD, as Rust and Python decode bytes leniently.
std::string replace_invalid_utf8(std::string_view text);

/// Every `from`, leftmost first; none where it is empty.
void replace_all(std::string& text, std::string_view from, std::string_view to);

bool is_white_space(std::uint32_t code) noexcept;      // White_Space
bool is_numeric(std::uint32_t code) noexcept;          // categories Nd, Nl, No
bool is_punctuation(std::uint32_t code) noexcept;      // categories P*, and ASCII's symbols
bool is_mark(std::uint32_t code) noexcept;             // categories M*
bool is_nonspacing_mark(std::uint32_t code) noexcept;  // category Mn
bool is_other(std::uint32_t code) noexcept;            // categories Cc, Cf, Cs, Co
bool is_word_character(std::uint32_t code) noexcept;   // \w: Alphabetic, marks, Nd, Pc, joiners

}  // namespace ropewalk::formats

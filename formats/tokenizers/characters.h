#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ropewalk::formats {

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

bool is_white_space(std::uint32_t code) noexcept;      // White_Space
bool is_numeric(std::uint32_t code) noexcept;          // categories Nd, Nl, No
bool is_punctuation(std::uint32_t code) noexcept;      // categories P*, and ASCII's symbols
bool is_mark(std::uint32_t code) noexcept;             // categories M*
bool is_nonspacing_mark(std::uint32_t code) noexcept;  // category Mn
bool is_other(std::uint32_t code) noexcept;            // categories Cc, Cf, Cs, Co
bool is_word_character(std::uint32_t code) noexcept;   // \w: Alphabetic, marks, Nd, Pc, joiners

}  // namespace ropewalk::formats

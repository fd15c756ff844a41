#pragma once

#include <cstdint>

namespace ropewalk::formats {

/// The tokenizers library asks several Unicode tables of different ages: punctuation and marks by Unicode 8 and 9,
/// numbers and word characters by 16 and 17. Where its answer for a class is not that of utf8proc's Unicode 15.0.
enum class CharacterClass : std::uint8_t { punctuation, numeric, word, mark, nonspacing_mark, other };
enum class LibraryAnswer : std::uint8_t { same, yes, no };
LibraryAnswer library_answer(CharacterClass of, std::uint32_t code) noexcept;
/// The lower case of a letter whose case utf8proc does not know (the library's is Unicode 17.0's); `code` for all others.
std::uint32_t newer_lowercase(std::uint32_t code) noexcept;
/// Its normal forms are Unicode 9.0's. Whether `code` came later, and utf8proc's forms would decompose it, move it or
/// combine it: to the library it is a character like any other, at which whatever stands around it ends.
bool newer_than_library_forms(std::uint32_t code) noexcept;

}  // namespace ropewalk::formats

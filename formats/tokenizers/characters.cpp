#include "formats/tokenizers/characters.h"

#include <utf8proc.h>

#include "formats/tokenizers/library_unicode.h"
#include "formats/utf8.h"

namespace ropewalk::formats {
namespace {

utf8proc_category_t category(std::uint32_t code) noexcept {
  return utf8proc_category(static_cast<utf8proc_int32_t>(code));
}

bool in(utf8proc_category_t category, utf8proc_category_t first, utf8proc_category_t last) noexcept {
  return category >= first && category <= last;
}

/// utf8proc's answer unless the library's is known to be another.
bool corrected(CharacterClass of, std::uint32_t code, bool answer) noexcept {
  const LibraryAnswer known = library_answer(of, code);
  return known == LibraryAnswer::same ? answer : known == LibraryAnswer::yes;
}

/// Bytes of the longest start of a character `text` begins with, at least 1: what one U+FFFD stands for.
std::size_t broken_length(std::string_view text) noexcept {
  const auto first = static_cast<unsigned char>(text[0]);
  if (first < 0xC2 || first > 0xF4 || text.size() == 1) return 1;
  const auto second = static_cast<unsigned char>(text[1]);
  const unsigned low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  const unsigned high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  if (first < 0xE0 || second < low || second > high) return 1;
  if (first < 0xF0 || text.size() == 2) return 2;
  return (static_cast<unsigned char>(text[2]) & 0xC0) == 0x80 ? 3 : 2;
}

}  // namespace

Character first_character(std::string_view text) noexcept {
  const auto first = static_cast<unsigned char>(text[0]);
  if (first < 0x80) return {first, 1};
  const std::size_t length = utf8_length(text[0]);
  std::uint32_t code = first & (0xFFu >> (length + 1));
  for (std::size_t at = 1; at < length; ++at) code = code << 6 | (static_cast<unsigned char>(text[at]) & 0x3Fu);
  return {code, length};
}

Character last_character(std::string_view text) noexcept {
  std::size_t at = text.size() - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return first_character(text.substr(at));
}

void append_utf8(std::string& out, std::uint32_t code) {
  const auto put = [&out](std::uint32_t byte) { out += static_cast<char>(byte); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6);
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3F));
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t valid = first_invalid_utf8(text);
    out += text.substr(0, valid);
    text.remove_prefix(valid);
    if (text.empty()) break;
    out += "\xEF\xBF\xBD";
    text.remove_prefix(broken_length(text));
  }
  return out;
}

bool is_white_space(std::uint32_t code) noexcept {
  return (code >= 0x09 && code <= 0x0D) || code == 0x20 || code == 0x85 || code == 0xA0 || code == 0x1680 ||
         (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F ||
         code == 0x3000;
}

bool is_numeric(std::uint32_t code) noexcept {
  if (code < 0x80) return code >= '0' && code <= '9';
  return corrected(CharacterClass::numeric, code, in(category(code), UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NO));
}

bool is_punctuation(std::uint32_t code) noexcept {
  if (code < 0x80)
    return code > 0x20 && code < 0x7F && !((code | 0x20) >= 'a' && (code | 0x20) <= 'z') && !is_numeric(code);
  return corrected(CharacterClass::punctuation, code, in(category(code), UTF8PROC_CATEGORY_PC, UTF8PROC_CATEGORY_PO));
}

bool is_mark(std::uint32_t code) noexcept {
  return code >= 0x80 &&
         corrected(CharacterClass::mark, code, in(category(code), UTF8PROC_CATEGORY_MN, UTF8PROC_CATEGORY_ME));
}

bool is_nonspacing_mark(std::uint32_t code) noexcept {
  return code >= 0x80 && corrected(CharacterClass::nonspacing_mark, code, category(code) == UTF8PROC_CATEGORY_MN);
}

bool is_other(std::uint32_t code) noexcept {
  return corrected(CharacterClass::other, code, in(category(code), UTF8PROC_CATEGORY_CC, UTF8PROC_CATEGORY_CO));
}

bool is_word_character(std::uint32_t code) noexcept {
  if (code < 0x80) return is_numeric(code) || code == '_' || ((code | 0x20) >= 'a' && (code | 0x20) <= 'z');
  const utf8proc_category_t found = category(code);
  if (in(found, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_NL) || found == UTF8PROC_CATEGORY_PC) return true;
  // Other_Alphabetic beyond letters and marks: circled and squared letters; Join_Control
  const bool joined = (code >= 0x24B6 && code <= 0x24E9) || (code >= 0x1F130 && code <= 0x1F149) ||
                      (code >= 0x1F150 && code <= 0x1F169) || (code >= 0x1F170 && code <= 0x1F189) || code == 0x200C ||
                      code == 0x200D;
  return corrected(CharacterClass::word, code, joined);
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  if (from.empty()) return;
  std::string out;
  std::size_t at = 0;
  for (std::size_t next; (next = text.find(from, at)) != std::string::npos; at = next + from.size()) {
    out.append(text, at, next - at);
    out += to;
  }
  if (at == 0) return;
  out.append(text, at, std::string::npos);
  text = std::move(out);
}

}  // namespace ropewalk::formats

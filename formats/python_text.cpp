#include "formats/python_text.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>

#include "formats/utf8.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

struct Character {
  std::int32_t code = 0;
  std::size_t bytes = 0;
};
Character first_of(std::string_view text) {
  utf8proc_int32_t code = 0;
  const auto bytes = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                      static_cast<utf8proc_ssize_t>(text.size()), &code);
  return {code, static_cast<std::size_t>(bytes)};
}

void append(std::string& out, std::int32_t code) {
  std::array<utf8proc_uint8_t, 4> bytes{};
  const auto size = utf8proc_encode_char(code, bytes.data());
  out.append(reinterpret_cast<const char*>(bytes.data()), static_cast<std::size_t>(size));
}

/// str.isspace() of one character: those of bidirectional type WS, B or S, or category Zs.
bool is_space(std::int32_t code) {
  static constexpr std::int32_t kOthers[] = {0x85, 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000};
  return (code >= 0x09 && code <= 0x0D) || (code >= 0x1C && code <= 0x20) || (code >= 0x2000 && code <= 0x200A) ||
         std::ranges::find(kOthers, code) != std::end(kOthers);
}

/// Beginning of the last character.
std::size_t last_start(std::string_view text) {
  std::size_t at = text.size() - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}

/// Unicode's SpecialCasing.txt: title case of several characters.
bool is_special_in_title(std::int32_t code) {
  static constexpr std::int32_t kRanges[][2] = {{0xDF, 0xDF},     {0x149, 0x149},   {0x1F0, 0x1F0},   {0x390, 0x390},
                                                {0x3B0, 0x3B0},   {0x587, 0x587},   {0x1E96, 0x1E9A}, {0x1F50, 0x1F56},
                                                {0x1FB2, 0x1FB7}, {0x1FC2, 0x1FC7}, {0x1FD2, 0x1FD7}, {0x1FE2, 0x1FE7},
                                                {0x1FF2, 0x1FF7}, {0xFB00, 0xFB06}, {0xFB13, 0xFB17}};
  return std::ranges::any_of(kRanges, [&](const auto& range) { return code >= range[0] && code <= range[1]; });
}
/// Lower case of several characters, or that depends on where in a word it stands.
bool is_special_in_lower(std::int32_t code) { return code == 0x130 || code == 0x3A3; }

[[noreturn]] void refuse(std::string_view character) {
  throw Error(ErrorKind::unsupported, {},
              "the case of '" + std::string(character) + "' is several characters or depends on those around it",
              "write that word in lower case, its first letter in upper case");
}

}  // namespace

std::size_t python_length(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string_view python_rstrip(std::string_view text) {
  while (!text.empty()) {
    const std::size_t at = last_start(text);
    if (!is_space(first_of(text.substr(at)).code)) break;
    text = text.substr(0, at);
  }
  return text;
}

std::string_view python_strip(std::string_view text) {
  while (!text.empty()) {
    const Character first = first_of(text);
    if (!is_space(first.code)) break;
    text.remove_prefix(first.bytes);
  }
  return python_rstrip(text);
}

std::string python_capitalize(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const Character here = first_of(text.substr(at));
    if (at == 0 ? is_special_in_title(here.code) : is_special_in_lower(here.code)) refuse(text.substr(at, here.bytes));
    append(out, at == 0 ? utf8proc_totitle(here.code) : utf8proc_tolower(here.code));
    at += here.bytes;
  }
  return out;
}

}  // namespace ropewalk::formats
